"""Text, line by line."""

import io
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from ..errors import DataError
from .source import Source

MAX_LINE_BYTES = 2**24
MAX_PASSAGE_BYTES = 2**24
BLOCK_BYTES = 2**16


class PassageTooLong(Exception):
    """More than `MAX_PASSAGE_BYTES` were read behind the mark of `Lines`."""


def open_text(source: Source) -> io.TextIOWrapper:
    r"""Return the text of a source, UTF-8 with or without a mark, with ``\n`` for all line ends.

    Who reads it gets a `DataError` at a line of more than `MAX_LINE_BYTES`.
    """
    return _as_text(source, _BoundedLines(source.open(), source.where))


class Lines:
    """The lines of a text with rows on them, which can be read again from a mark on.

    Of a plain file the mark stays at the first row, from which it is opened anew, so that its lines come as
    fast as Python reads them. What is compressed or comes only once is kept from the mark on, with bounds.
    """

    def __init__(self, source: Source) -> None:
        """Open a source."""
        self._source = source
        self._bounded = source.once or source.is_packed
        self.row = self.marked = 0
        """The row on the line that is marked, and the lines before it."""
        self._ahead: deque[list[str]] = deque()
        self._kept: list[list[str]] = []
        self._open()
        self._begin()

    def mark(self, row: int) -> None:
        """Mark the line that comes next, on which ``row`` starts, counted from 1."""
        if row > 1 and not self._bounded:
            return
        rest = list(self._block)
        self.row, self.marked = row, self._given - len(rest)
        if rest:
            self._ahead.appendleft(rest)
        self._begin()

    def rewind(self) -> None:
        """Go back to the mark."""
        if self._bounded:
            self._ahead.extendleft(reversed(self._kept))
        else:
            self._ahead.clear()
            self._open()
            deque(islice(self._text, self.marked), 0)
        self._begin()

    def passed(self) -> int:
        """Return how many bytes were read since the mark; 0 for a plain file."""
        return self._bytes.count - self._before if self._bytes else 0

    def _open(self) -> None:
        file = self._source.open()
        self._bytes = _BoundedLines(file, self._source.where) if self._bounded else None
        self._text = _as_text(self._source, self._bytes or file)

    def _begin(self) -> None:
        """Give lines from here, the mark, on."""
        self._given = self.marked
        self._block: Iterator[str] = iter(())
        self._kept = []
        self._before = self._bytes.count if self._bytes else 0
        self.lines: Iterator[str]
        """The lines from the mark on; `mark` and `rewind` make another iterator."""
        if self.row and not self._bounded:
            self.lines = chain(*self._ahead, self._text)
            self._ahead.clear()
        else:
            self.lines = chain.from_iterable(self._blocks())

    def _blocks(self) -> Iterator[Iterator[str]]:
        # nothing of Python's is called for a single line: that would cost as much as the numbers on it
        while block := self._ahead.popleft() if self._ahead else self._text.readlines(BLOCK_BYTES):
            if self._bounded:
                self._kept.append(block)
            if self.passed() > MAX_PASSAGE_BYTES:
                raise PassageTooLong(f"more than {MAX_PASSAGE_BYTES / 2**20:.3g} MiB")
            self._given += len(block)
            self._block = iter(block)
            yield self._block


class _BoundedLines(io.BufferedIOBase):
    """The bytes of a text, whose lines have a bound."""

    def __init__(self, file: Any, where: str) -> None:
        self._file, self._where = file, where
        self._of_line = 0
        self.count = 0

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        found: bytes = self._file.read1(BLOCK_BYTES)  # as much as suits, which `io.TextIOWrapper` allows
        end = max(found.rfind(b"\n"), found.rfind(b"\r"))
        self._of_line = len(found) - end - 1 if end >= 0 else self._of_line + len(found)
        if self._of_line > MAX_LINE_BYTES:
            raise DataError(
                f"{self._where}: holds a line of more than {MAX_LINE_BYTES / 2**20:.3g} MiB; put each row on "
                "a line of its own"
            )
        self.count += len(found)
        return found


def _as_text(source: Source, file: Any) -> io.TextIOWrapper:
    text = io.TextIOWrapper(file, "utf-8-sig")
    source.keep(text)
    return text
