"""One line of text or one MQTT message becomes one reading: JSON, or CSV with a header."""

import csv
import json
import math
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from ._errors import DataError
from ._manifest import Input
from ._times import parse_time

TIME_NAMES = ("time", "timestamp", "datetime", "date")
"""What the time of a reading may be called, in any case."""
SEQUENCE_NAME = "seq"
MILLISECONDS_FROM = 1e11
"""Unix times above are of milliseconds: as seconds it would be the year 5138."""


class Reading(NamedTuple):
    """One sample, as `Stream.push` takes it."""

    values: list[Any] | None
    time: datetime | None
    sequence: int | None
    """Counted by one by whoever sends it."""


class Parser:
    """Knows what the bundle takes, and of a CSV its header."""

    def __init__(self, wanted: Input) -> None:
        """See `Input`."""
        self._features = wanted.features
        self._count = wanted.size // (wanted.window or 1)
        self._columns: list[tuple[str, int]] | None = None

    def begin(self, line: bytes) -> bool:
        """Look at a file's first line; tell whether it is the header of a CSV, so no reading.

        Raises:
            DataError: it is a header without the bundle's features.
        """
        self._columns = None
        if _is_json(line):
            return False
        names = [name.strip() for name in _cells(line)]
        found = {name: place for place, name in enumerate(names)}
        if self._features is not None:
            missing = [name for name in self._features if name not in found]
            wanted = list(self._features)
        else:
            wanted = [n for n in names if n.lower() not in TIME_NAMES and n != SEQUENCE_NAME]
            missing = [] if len(wanted) == self._count else [f"{self._count} columns of numbers"]
        if missing or len(found) != len(names):
            raise DataError(
                f"the first line is neither JSON nor the header of a CSV with {', '.join(missing or names)}; "
                f"found {line[:80].decode(errors='replace').strip()!r}"
            )
        others = [n for n in names if n not in wanted and (n.lower() in TIME_NAMES or n == SEQUENCE_NAME)]
        self._columns = [(name, found[name]) for name in [*wanted, *others]]
        self._wanted = len(wanted)
        return True

    def parse(self, line: bytes) -> Reading:
        """Return what a line says: of a CSV where `begin` found its header, else JSON.

        Raises:
            DataError: it says nothing that could be a reading.
        """
        if self._columns is not None:
            cells = _cells(line)
            if len(cells) <= max(place for _, place in self._columns):
                raise DataError(f"{len(cells)} cells, fewer than the header has")
            try:
                values = [_number(cells[place]) for _, place in self._columns[: self._wanted]]
            except ValueError as error:
                raise DataError(str(error)) from None
            return self._reading(
                values, {name: cells[place] for name, place in self._columns[self._wanted :]}
            )
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            try:
                found = json.loads(line)  # takes NaN, which small devices write
            except (ValueError, RecursionError) as error:
                raise DataError(f"is not JSON ({error})") from None
        if isinstance(found, list):
            return Reading(found, None, None)
        if isinstance(found, dict):
            return self._object(found)
        if isinstance(found, int | float) and not isinstance(found, bool):
            return Reading([found], None, None)
        raise DataError(f"is neither a list of numbers nor an object but {str(found)[:40]!r}")

    def _object(self, found: dict[str, Any]) -> Reading:
        values = found.get("values")
        if values is None and self._features is not None:
            if not any(name in found for name in self._features):
                raise DataError(
                    f"has none of {', '.join(self._features)}, only {', '.join(found) or 'nothing'}"
                )
            values = [found.get(name) for name in self._features]
        if not isinstance(values, list):
            raise DataError('the bundle names no features: send a list, or {"values": [...], "time": ...}')
        return self._reading(values, found)

    def _reading(self, values: list[Any], fields: dict[str, Any]) -> Reading:
        time = sequence = None
        for name, value in fields.items():
            if name.lower() in TIME_NAMES and name not in (self._features or ()):
                time = _time(value)
            elif name == SEQUENCE_NAME and SEQUENCE_NAME not in (self._features or ()):
                sequence = _sequence(value)
        return Reading(values, time, sequence)


def _is_json(line: bytes) -> bool:
    if line.lstrip()[:1] in (b"[", b"{"):
        return True
    try:
        float(line)
    except ValueError:
        return False
    return True


def _cells(line: bytes) -> list[str]:
    text = line.decode("utf-8-sig", errors="replace").rstrip("\r\n")
    return next(csv.reader([text]), [])


def _number(cell: str) -> float | None:
    if not cell.strip():
        return None
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{cell[:40]!r} is not a number") from None


def _time(value: Any) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            return parse_time(value)
        if isinstance(value, bool) or not math.isfinite(value):
            raise ValueError
        seconds = value / 1000 if abs(value) >= MILLISECONDS_FROM else value
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    except (ValueError, TypeError, OverflowError, OSError):
        raise DataError(f"{str(value)[:40]!r} is not a time (ISO 8601, or Unix seconds)") from None


def _sequence(value: Any) -> int:
    try:
        number = int(value)
        if isinstance(value, bool) or (isinstance(value, float) and number != value):
            raise ValueError
        return number
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"{SEQUENCE_NAME} is {str(value)[:40]!r}, not a whole number") from None
