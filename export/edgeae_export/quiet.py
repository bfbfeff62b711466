"""Keep the chatter of native libraries off the terminal, unless something goes wrong."""

import contextlib
import gc
import io
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what is printed inside, by Python and by native code; show it again on an error.

    TensorFlow's C++ start-up lines ignore every environment variable until its logger is set up, and
    the converters report to both streams. File descriptor 2 is therefore redirected while this runs.
    """
    sys.stderr.flush()
    saved, text = os.dup(2), io.StringIO()
    with tempfile.TemporaryFile() as native:
        os.dup2(native.fileno(), 2)
        try:
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                yield
        except BaseException:
            os.dup2(saved, 2)
            native.seek(0)
            sys.stderr.write(native.read().decode(errors="replace") + text.getvalue())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def import_tensorflow(*, command: bool = False) -> None:
    """Import TensorFlow and let it look for devices without printing about it.

    Args:
        command: whether this process is a command's, over when its work is done. The garbage collector then
            passes over all that is there by now, half a million objects of TensorFlow's: to look through
            them again and again took a third of an export.
    """
    if "tensorflow" in sys.modules:
        return
    collects = gc.isenabled()
    gc.disable()  # what is imported stays
    try:
        with quiet():
            import tensorflow

            tensorflow.config.list_physical_devices()
    finally:
        if collects:
            gc.enable()
    if command:
        gc.freeze()
