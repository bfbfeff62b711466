"""Readings: the lines of standard input or of a file that others go on writing to, and how one is parsed."""

import csv
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from ._csv import is_time, parse_time
from ._errors import DataError
from ._manifest import Input

TIME_NAMES = ("time", "timestamp", "datetime", "date")
"""What the time of a reading may be called, in any case."""
SEQUENCE_NAME = "seq"
MILLISECONDS_FROM = 1e11
"""Unix times above this are in milliseconds: as seconds it would be the year 5138."""
CHUNK_BYTES = 1 << 14
POLL_SECONDS = 0.25
READING_BYTES = 1_000_000
"""Longest line or message in bytes, unless `VALUE_BYTES` for each value are more; longer is left out."""
VALUE_BYTES = 32
"""Bytes that are allowed for each value, where that is more than `READING_BYTES`."""


class Reading(NamedTuple):
    """One sample, as `Stream.push` takes it."""

    values: list[Any]
    time: datetime | None
    sequence: int | None
    """Counted by one by whoever sends it."""


class Parser:
    """Knows what the bundle takes, and of a CSV its header."""

    def __init__(self, wanted: Input) -> None:
        """See `Input`."""
        self._features = wanted.features
        self._count = wanted.size // (wanted.window or 1)
        self.header: bytes | None = None
        """The line; empty where lines are JSON, None before the first."""

    def begin(self, line: bytes) -> None:
        """Look at a file's first line, whether it is a header or JSON.

        One that begins with data, or half a line, is as that before.

        Raises:
            DataError: it is a header without the bundle's features.
        """
        if line.lstrip()[:1] in (b"[", b"{", b"") or (not self.header and _is_number(line)):
            self.header = b""
            return
        names = [name.strip() for name in _cells(line)]
        if self.header and any(_is_number(name) or is_time(name) for name in names):
            return
        wanted = self._features or [name for name in names if not self._is_extra(name)]
        missing = [name for name in wanted if name not in names]
        if len(wanted) != self._count:
            missing = [f"{self._count} columns of numbers"]
        if missing or len(set(names)) < len(names):
            if self.header == b"":
                return
            raise DataError(
                f"the first line is neither JSON nor the header of a CSV with {', '.join(missing or names)}; "
                f"found {line[:80].decode(errors='replace').strip()!r}"
            )
        self.header, self._names, self._wanted = line, names, wanted

    def parse(self, line: bytes) -> Reading:
        """Return the reading in a line.

        Raises:
            DataError: it holds nothing that could be a reading.
        """
        if self.header:
            cells = _cells(line)
            if len(cells) < len(self._names) or any(cells[len(self._names) :]):
                raise DataError(f"{len(cells)} cells, the header has {len(self._names)}")
            row = dict(zip(self._names, cells, strict=False))
            return self._reading([_number(row[name]) for name in self._wanted], row)
        try:
            found = json.loads(line)  # unlike msgspec it takes NaN, which small devices write
        except (ValueError, RecursionError) as error:
            raise DataError(f"is not JSON ({error})") from None
        if isinstance(found, dict):
            values = found.get("values")
            if values is None and self._features:
                if not any(name in found for name in self._features):
                    raise DataError(f"has none of {', '.join(self._features)}, only {', '.join(found)}")
                values = [found.get(name) for name in self._features]
            if isinstance(values, list):
                return self._reading(values, found)
            raise DataError('the bundle names no features: send a list, or {"values": [...], "time": ...}')
        if found is None or isinstance(found, bool | str):
            raise DataError(f"is neither a list of numbers nor an object but {str(found)[:40]!r}")
        return Reading(found if isinstance(found, list) else [found], None, None)

    def _is_extra(self, name: str) -> bool:
        """Return whether it is the name of a time or sequence number."""
        is_feature = name in (self._features or ())
        return not is_feature and (name.lower() in TIME_NAMES or name == SEQUENCE_NAME)

    def _reading(self, values: list[Any], fields: dict[str, Any]) -> Reading:
        time = sequence = None
        for name in filter(self._is_extra, fields):
            if name == SEQUENCE_NAME:
                sequence = _sequence(fields[name])
            else:
                time = _time(fields[name])
        return Reading(values, time, sequence)


def _is_number(text: bytes | str) -> bool:
    try:
        return float(text) is not None
    except ValueError:
        return False


def _cells(line: bytes) -> list[str]:
    text = line.decode("utf-8-sig", errors="replace").rstrip("\r\n")
    try:
        return next(csv.reader([text]), [])
    except csv.Error as error:
        raise DataError(f"is not CSV ({error})") from None


def _number(cell: str) -> float | None:
    try:
        return float(cell) if cell.strip() else None
    except ValueError:
        raise DataError(f"{cell[:40]!r} is not a number") from None


def _time(value: Any) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            if not value.replace(".", "", 1).isdigit() or (len(value) == 8 and value.isdigit()):
                return parse_time(value)  # 20260304 too
            value = float(value)
        if isinstance(value, bool):
            raise TypeError
        seconds = value / 1000 if abs(value) >= MILLISECONDS_FROM else value
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    except (ValueError, TypeError, OverflowError, OSError):
        raise DataError(f"{str(value)[:40]!r} is not a time (ISO 8601, or Unix seconds)") from None


def _sequence(value: Any) -> int:
    try:
        number = int(value)
        if (
            number.bit_length() > 63
            or isinstance(value, bool)
            or (isinstance(value, float) and number != value)
        ):
            raise ValueError
        return number
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"{SEQUENCE_NAME} is {str(value)[:40]!r}, not a whole number") from None


class Position(NamedTuple):
    """Where in a followed file the lines so far end."""

    inode: int
    offset: int


class Lines(NamedTuple):
    """Whole lines, without their ends."""

    lines: list[bytes]
    is_new: bool = False
    """Whether a file begins here."""
    position: Position | None = None
    too_long: int = 0
    """So many others were left out."""


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
