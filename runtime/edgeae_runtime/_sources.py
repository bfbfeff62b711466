"""Lines from standard input, or from a file that others go on writing to."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CHUNK_BYTES = 1 << 14
POLL_SECONDS = 0.25
LINE_BYTES = 1 << 24
"""A line that grows beyond this is not one; it is cut there."""


class Position(NamedTuple):
    """Where in a followed file the lines so far end."""

    inode: int
    offset: int


class Lines(NamedTuple):
    """Whole lines, without their ends."""

    lines: list[bytes]
    first: bytes | None = None
    """With the first lines after a file was opened: the first one of that file."""
    is_start: bool = False
    """Whether that one is among these."""
    position: Position | None = None


Deliver = Callable[[Lines], None]
"""May wait; that is what keeps a fast file from filling the memory."""


def read_lines(descriptor: int, deliver: Deliver) -> None:
    """Deliver the lines of a pipe or file as they come, until it ends."""
    rest = b""
    started = False
    while chunk := os.read(descriptor, CHUNK_BYTES):
        lines, rest = _split(rest + chunk)
        if lines:
            deliver(Lines(lines, None if started else lines[0], not started))
            started = True
    if rest:
        deliver(Lines([rest], None if started else rest, not started))


def follow(path: Path, position: Position | None, deliver: Deliver, stop: threading.Event) -> None:
    """Deliver the lines of a file from where one came to before, then those that are added, until stopped.

    A file that was replaced (renamed, as logrotate does it) is read to its end first; one that was
    truncated is begun anew. After a restart the rest of the old file is looked for under ``NAME.1``.
    """
    if position is not None and _inode(path) != position.inode:
        older = path.with_name(f"{path.name}.1")
        if _inode(older) == position.inode:
            _Tail(older, position.offset).drain(deliver)
    tail = None
    while True:
        if tail is None:
            inode = _inode(path)
            if inode is not None:
                is_known = position is not None and inode == position.inode
                try:
                    tail = _Tail(path, position.offset if is_known and position is not None else 0)
                except FileNotFoundError:
                    tail = None
            position = None
        if tail is not None:
            moved = tail.read(deliver)
            if not moved and _inode(path) not in (None, tail.inode):
                tail.drain(deliver)
                tail = None
                continue
            if moved and not stop.is_set():
                continue
        if stop.wait(POLL_SECONDS):
            if tail is not None:
                tail.close()
            return


class _Tail:
    """An open file, and the part of a line at its end."""

    def __init__(self, path: Path, offset: int) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  # closed by `drain` or `close`
        status = os.fstat(self._file.fileno())
        self.inode = status.st_ino
        self._offset = offset if offset <= status.st_size else 0
        self._rest = b""
        self._first = self._first_line() if self._offset else None
        self._is_new = True
        self._file.seek(self._offset)

    def read(self, deliver: Deliver) -> bool:
        """Deliver what is there; tell whether there was anything."""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._offset, self._rest, self._first, self._is_new = 0, b"", None, True
            self._file.seek(0)
        chunk = self._file.read(CHUNK_BYTES)
        lines, self._rest = _split(self._rest + chunk)
        self._deliver(lines, deliver)
        return bool(chunk)

    def drain(self, deliver: Deliver) -> None:
        """Deliver the rest of a file that nobody goes on writing to, and close it."""
        while self.read(deliver):
            pass
        if self._rest:
            rest, self._rest = self._rest, b""
            self._deliver([rest], deliver)
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _deliver(self, lines: list[bytes], deliver: Deliver) -> None:
        if not lines:
            return
        is_start = self._is_new and self._first is None
        first = (self._first or lines[0]) if self._is_new else None
        self._is_new = False
        self._offset = self._file.tell() - len(self._rest)
        deliver(Lines(lines, first, is_start, Position(self.inode, self._offset)))

    def _first_line(self) -> bytes:
        self._file.seek(0)
        return self._file.readline(LINE_BYTES).rstrip(b"\n")


def _split(content: bytes) -> tuple[list[bytes], bytes]:
    *lines, rest = content.split(b"\n")
    if len(rest) > LINE_BYTES:
        return [*lines, rest], b""
    return lines, rest


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None
