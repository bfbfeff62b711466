"""Native code that writes to standard error."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_messages_muted() -> Iterator[None]:
    """Keep native code from writing to standard error."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
