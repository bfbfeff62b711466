"""Times as people and machines write them."""

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

    ISO 8601, the same with slashes or without leading zeros, and ``2.12.2013 21:15``. With an offset it
    becomes UTC. ``02/12/2013`` is refused: it is February in one country and December in another.

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
    """Return cells as times, (n,), ``datetime64[us]``; see `parse_time`."""
    return np.array([parse_time(cell) for cell in cells], "datetime64[us]")


def is_time(cell: str) -> bool:
    """Return whether `parse_time` reads it."""
    try:
        parse_time(cell)
    except ValueError:
        return False
    return True


def time_fault(cell: str) -> str | None:
    """Return what is wrong with a cell of a column of times, behind its column."""
    if is_time(cell):
        return None
    found = f": {cell[:80]!r} is not a date, as others of the column are" if cell.strip() else " is empty"
    return f"{found}; remove or repair the row, or leave the column out"


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
