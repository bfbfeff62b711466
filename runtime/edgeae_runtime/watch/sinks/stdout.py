"""Results to standard output."""

import sys


def write(lines: bytes) -> None:
    """Write lines, all of them, at once."""
    rest = memoryview(lines)
    while rest:  # unbuffered, it may take a part
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()
