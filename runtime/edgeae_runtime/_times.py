"""Dates and times in text, alike on the workstation and on the device: the standard library and numpy."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

_ISO_LIKE = re.compile(r"(\d{4})([-/])(\d{1,2})\2(\d{1,2})(?:[T ]+(\S.*))?", re.ASCII)
_DAY_FIRST = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?:[T ]+(\S.*))?", re.ASCII)
_SHORT_HOUR = re.compile(r"\d:", re.ASCII)


def parse_time(cell: str) -> datetime:
    """Read a date, or a date with a time.

    ISO 8601 (``2013-12-02``, ``2013-12-02 21:15:00.5``, ``2013-12-02T21:15Z``), the same with slashes or
    without leading zeros, and ``2.12.2013 21:15``. With an offset it becomes UTC; without one it is taken
    as it stands. ``02/12/2013`` is refused: it is February in one country and December in another.

    Raises:
        ValueError: it is none of these.
    """
    cell = cell.strip()
    try:
        time = datetime.fromisoformat(cell)
    except ValueError:
        time = datetime.fromisoformat(_as_iso(cell))
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)


def parse_times(cells: Iterable[str]) -> NDArray[np.datetime64]:
    """Read dates or times, (n,), as ``datetime64[us]``; errors are those of `parse_time`."""
    times = np.array([parse_time(cell) for cell in cells], "datetime64[us]")
    return times


def is_time(cell: str) -> bool:
    """Tell whether `parse_time` reads it."""
    try:
        parse_time(cell)
    except ValueError:
        return False
    return True


def _as_iso(cell: str) -> str:
    if match := _ISO_LIKE.fullmatch(cell):
        year, _, month, day, clock = match.groups()
    elif match := _DAY_FIRST.fullmatch(cell):
        day, month, year, clock = match.groups()
    else:
        raise ValueError(f"{cell!r} is not a date")
    if clock and _SHORT_HOUR.match(clock):
        clock = f"0{clock}"
    return f"{year}-{month:0>2}-{day:0>2}" + (f"T{clock}" if clock else "")
