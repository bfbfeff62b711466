"""Lines: of standard input, or of a file that others go on writing to."""

import os
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from ...errors import EdgeaeError
from ..events import Lines, Position, Post
from .source import Source

CHUNK_BYTES = 1 << 14
POLL_SECONDS = 0.25
READING_BYTES = 1_000_000
"""Longest line or message in bytes, unless `VALUE_BYTES` for each value are more; longer is left out."""


class LineSource(Source):
    """The lines of a file that is followed, or of standard input."""

    def __init__(self, path: Path | None, limit: int) -> None:
        """Read the file at ``path``, or standard input where it is None.

        Args:
            path: see `follow`.
            limit: longest line in bytes.
        """
        self.keeps = path is not None
        self._path, self._limit = path, limit
        self._ending = threading.Event()

    def run(self, post: Post, since: Position | None) -> None:
        """Post the lines.

        Raises:
            EdgeaeError: it cannot be read.
        """
        path, ending, limit = self._path, self._ending, self._limit
        try:
            if path is not None:
                found = follow(path, since, ending, limit)
            else:
                pipe = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
                found = read_lines(pipe, None, None, ending, limit)
            for lines in found:
                post(lines)
        except OSError as error:
            raise EdgeaeError(f"{path or 'standard input'}: cannot be read ({error.strerror})") from error

    def stop(self) -> None:
        """End at the next look at the file."""
        self._ending.set()


def follow(
    path: Path, position: Position | None, stop: threading.Event, limit: int = READING_BYTES
) -> Iterator[Lines]:
    """Yield the lines of a file from where one came to before, then those that are added, until stopped.

    A file that was replaced (renamed, as logrotate does it) is read to its end first; one that was
    truncated is begun anew. After a restart the old file is looked for under ``NAME.1``.
    """
    older = path.with_name(f"{path.name}.1")
    name = older if position is not None and _inode(older) == position.inode else path
    while not stop.is_set():
        try:
            with open(name, "rb", buffering=0) as file:
                yield from read_lines(file, path, position, stop, limit)
        except FileNotFoundError:
            stop.wait(POLL_SECONDS)
        name, position = path, None


def read_lines(
    file: FileIO,
    path: Path | None,
    position: Position | None,
    stop: threading.Event,
    limit: int = READING_BYTES,
) -> Iterator[Lines]:
    """Yield the lines of a pipe or file as they come: to its end, or while nothing else is at the path.

    A line of more than ``limit`` bytes is left out, and never in memory as a whole.
    """
    rest, is_new, is_over, inode, is_long = b"", True, path is None, 0, False
    if path is not None:
        status = os.fstat(file.fileno())
        inode = status.st_ino
        if position is not None and position.inode == inode and position.offset <= status.st_size:
            is_new = False
            file.seek(position.offset)
    while not stop.is_set():
        if path is not None and os.fstat(file.fileno()).st_size < file.tell():
            rest, is_new, is_long = b"", True, False
            file.seek(0)
        chunk = os.read(file.fileno(), CHUNK_BYTES)
        *lines, rest = (rest + chunk).split(b"\n")
        if is_over and not chunk and (rest or is_long):
            lines.append(rest)
            rest = b""
        kept = [line for line in lines[is_long:] if len(line) <= limit]
        if lines:
            at = None if path is None else Position(inode, file.tell() - len(rest))
            yield Lines(kept, is_new, at, len(lines) - len(kept))
            is_new = is_new and not any(kept)
            is_long = False
        if is_long or len(rest) > limit:
            rest, is_long = b"", True
        if not chunk:
            if path is None or is_over:
                return
            is_over = _inode(path) not in (None, inode)  # once more: something may just have been written
            if not is_over:
                stop.wait(POLL_SECONDS)


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None
