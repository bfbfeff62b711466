"""Readings, parsed from lines and messages."""

import csv
import json
from codecs import BOM_UTF8
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..bundle.manifest import Input
from ..errors import DataError
from ..readers.times import is_time, parse_time

TIME_NAMES = ("time", "timestamp", "datetime", "date")
"""Names of a reading's time, in upper or lower case."""
SEQUENCE_NAME = "seq"
MILLISECONDS_FROM = 1e11
"""Unix times above this are in milliseconds: as seconds it would be the year 5138."""

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
        """Look at a file's first line, whether it is a header or JSON; a byte order mark does not matter.

        One that begins with data, or half a line, is as that before.

        Raises:
            DataError: it is a header without the bundle's features.
        """
        if line.removeprefix(BOM_UTF8).lstrip()[:1] in (b"[", b"{", b"") or (
            not self.header and _is_number(line)
        ):
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
            found = json.loads(
                line.removeprefix(BOM_UTF8)
            )  # unlike msgspec it takes NaN, which small devices write
        except (ValueError, RecursionError) as error:
            raise DataError(f"is not JSON ({error})") from None
        if isinstance(found, dict):
            values = found.get("values")
            if self._features and (values is None or any(name in found for name in self._features)):
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
        """Return the reading; of several times that are given, the first of `TIME_NAMES` counts."""
        extra = {name: fields[name] for name in filter(self._is_extra, fields)}
        sequence = _sequence(extra.pop(SEQUENCE_NAME, None))
        given = {name.lower(): value for name, value in extra.items() if value is not None and value != ""}
        first = next((given[name] for name in TIME_NAMES if name in given), None)
        return Reading(values, _time(first), sequence)


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


def _sequence(value: Any) -> int | None:
    if value is None or value == "":
        return None
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
