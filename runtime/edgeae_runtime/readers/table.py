"""Tables, whole and in pieces; which of their columns are features, times or labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import listed
from ..errors import Argument, DataError

PIECE_VALUES = 2**18
"""Most values of a piece that is read at once, unless `LEAST_PIECE_ROWS` are more."""
LEAST_PIECE_ROWS = 1024
"""Least rows of a piece that is read at once."""


@dataclass(frozen=True)
class Piece:
    """Some rows of a file."""

    values: NDArray[Any]
    """(n, ...): float32, or integers of the type that the file holds."""
    times: NDArray[np.datetime64] | None = None
    """(n,), ``datetime64[us]``; None where not asked for, or not there."""
    labels: NDArray[np.object_] | None = None
    """(n,), as they stand in the file; None where not asked for."""
    read: float = 1.0


def choose(
    where: object, header: list[str], columns: Sequence[str] | None, label: str | None
) -> tuple[str, ...]:
    """Return the columns named, or all, but for that of the labels.

    Raises:
        DataError: one is missing, without a name, or there or in the header twice.
    """
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise DataError(f"{where}: the header names column {twice[0]!r} twice; rename one")
    chosen = tuple(header if columns is None else columns)
    missing = [name for name in dict.fromkeys((*chosen, *([label] if label else []))) if name not in header]
    if missing:
        raise DataError(f"{where}: has no column {listed(missing)}, found {listed(header)}; choose of these")
    if not chosen or len(set(chosen)) < len(chosen):
        raise DataError(f"{where}: chosen columns are {listed(chosen)}; name at least one, and none twice")
    if "" in chosen:
        raise DataError(f"{where}: column {header.index('') + 1} has no name; name it or choose the others")
    return tuple(name for name in chosen if name != label)


def column_roles(
    where: object, features: tuple[str, ...], kinds: Mapping[str, str], *, series: bool
) -> tuple[tuple[str, ...], str | None]:
    """Find the column of times, and take it out of the features; return both.

    Of each column ``kinds`` has ``number``, ``time``, or else what it holds, in words.

    Raises:
        DataError: several columns may be the time, or a feature is neither number nor time.
    """
    times = [name for name, kind in kinds.items() if kind == "time"]
    among = [name for name in features if name in times]
    if len(among) > 1 or (series and not among and len(times) > 1):
        raise DataError(
            f"{where}: columns {listed(among or times)} all hold dates, and one is the time of a row; "
            "name it, and the features, with ",
            Argument("columns"),
        )
    for name in features:
        if kinds[name] not in ("number", "time"):
            raise DataError(
                f"{where}: column {name!r} holds {kinds[name]}, neither numbers nor dates; name the columns "
                "to use with ",
                Argument("columns"),
                ", or keep it as labels with ",
                Argument("label_column", name),
            )
    rest = tuple(name for name in features if name not in among)
    if not rest:
        raise DataError(f"{where}: no column of numbers is left among {listed(features)}; choose one")
    return rest, next(iter(among or times), None) if among or len(times) == 1 else None


MORE = "more bytes follow the array"


class Table(NamedTuple):
    """Samples in raw units."""

    values: np.ndarray
    """(samples, ...): finite float32, or integers of the type that the file holds; never empty."""
    features: tuple[str, ...] | None
    """The names of the columns of a table, in the order of ``values``; None for other files."""
