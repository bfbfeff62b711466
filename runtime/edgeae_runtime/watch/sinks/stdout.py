"""Results to standard output, a line each."""

import sys

from ..events import Delivered, Post
from .sink import Sink


class Stdout(Sink):
    """Writes all that was published at once; nothing is on its way for long."""

    ready = True
    ahead = 1000

    def __init__(self) -> None:
        """Begin with nothing written."""
        self._lines: list[bytes] = []
        self._count = 0

    def start(self, post: Post) -> None:
        """Take whom to hand events over to."""
        self._post = post

    def publish(self, result: bytes) -> int:
        """Take a line."""
        self._lines.append(result)
        self._count += 1
        return self._count

    def flush(self) -> None:
        """Write what there is, and say so."""
        lines, self._lines = self._lines, []
        if lines:
            write(b"".join(line + b"\n" for line in lines))
            self._post(Delivered(tuple(range(self._count - len(lines) + 1, self._count + 1))))


def write(lines: bytes) -> None:
    """Write lines, all of them, at once."""
    rest = memoryview(lines)
    while rest:  # unbuffered, it may take a part
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()
