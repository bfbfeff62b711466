"""Tables, whole and in pieces; which of their columns are features, times or labels."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import as_samples, listed, not_finite
from ..errors import Argument, DataError

PIECE_VALUES = 2**18
"""Most values of a piece that is read at once, unless `LEAST_PIECE_ROWS` are more."""
LEAST_PIECE_ROWS = 1024
"""Least rows of a piece that is read at once."""
SNIFFED_ROWS = 100
"""First rows from which the type of a column is inferred."""
_FLOAT32_OVERFLOW = 2.0**128 - 2.0**103  # the least number that float32 rounds to infinity


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


@dataclass(frozen=True)
class OpenTable:
    """A table, or what is like one, whose rows come in pieces."""

    where: str
    """What messages call it."""
    features: tuple[str, ...] | None
    """The names of the columns of the pieces' values; None where columns have no names."""
    pieces: Iterator[Piece]
    """The rows in order, once; a `DataError` names the first that is wrong."""


@dataclass(frozen=True)
class Wanted:
    """What is to be read of a table."""

    columns: Sequence[str] | None = None
    """The features, in this order, and the time where several columns may be it; None for all columns."""
    label: str | None = None
    """The column of the labels."""
    times: bool = False
    """Whether to look for a column of times, which is no feature."""
    series: bool = False
    """Whether the times matter: two candidates are then an error, also where none was chosen."""
    only_label: bool = False
    """Whether the table is one column of labels."""


def choose(where: object, header: list[str], wanted: Wanted) -> tuple[tuple[str, ...], str | None]:
    """Return the features, which are the columns named, or all but for that of the labels; and this.

    Raises:
        DataError: one is missing, without a name, or there or in the header twice.
    """
    if wanted.only_label:
        if len(header) != 1:
            raise DataError(
                f"{where}: has {len(header)} columns, expected one, of labels; keep only that one"
            )
        return (), header[0]
    columns, label = wanted.columns, wanted.label
    there = Counter(header)
    if len(there) < len(header):
        twice = next(name for name, count in there.items() if count > 1)
        raise DataError(f"{where}: the header names column {twice!r} twice; rename one")
    chosen = tuple(header if columns is None else columns)
    missing = [name for name in dict.fromkeys((*chosen, *([label] if label else []))) if name not in there]
    if missing:
        raise DataError(f"{where}: has no column {listed(missing)}, found {listed(header)}; choose of these")
    if not chosen or len(set(chosen)) < len(chosen):
        raise DataError(f"{where}: chosen columns are {listed(chosen)}; name at least one, and none twice")
    if "" in chosen:
        raise DataError(f"{where}: column {header.index('') + 1} has no name; name it or choose the others")
    return tuple(name for name in chosen if name != label), label


def column_roles(
    where: object, features: tuple[str, ...], kinds: Mapping[str, str], wanted: Wanted
) -> tuple[tuple[str, ...], str | None]:
    """Find the column of times, and take it out of the features; return both.

    Of each column ``kinds`` has ``number``, ``time``, or else what it holds, in words.

    Raises:
        DataError: several columns may be the time, or a feature is neither number nor time.
    """
    if wanted.only_label:
        return (), None
    times = [name for name, kind in kinds.items() if kind == "time"]
    among = [name for name in features if name in times]
    if len(among) > 1 or (wanted.series and not among and len(times) > 1):
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


def of_array(array: NDArray[Any], where: str, wanted: Wanted) -> OpenTable:
    """Return an array (n, ...) as a table without names; of one dimension it is (n, 1)."""
    if wanted.only_label:
        labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        if labels.ndim != 1 or not len(labels):
            raise DataError(f"{where}: has shape {labels.shape}, expected one label a row, (rows,)")
        if labels.dtype.kind not in "US":
            as_samples(labels[:, np.newaxis], where=where)
        return OpenTable(where, None, iter([Piece(np.empty((len(labels), 0)), labels=labels)]))
    refuse_label(where, wanted)
    array = array[:, np.newaxis] if array.ndim == 1 else array
    return OpenTable(where, None, iter([Piece(as_samples(array, where=where))]))


def refuse_label(where: object, wanted: Wanted) -> None:
    """Refuse to read a column of labels where there cannot be one.

    Raises:
        DataError: one is wanted.
    """
    if wanted.label is not None:
        raise DataError(f"{where}: has no column {wanted.label!r}; labels are a column of a table")
    if wanted.only_label:
        raise DataError(f"{where}: holds no labels; name a table of one column, or an array of one dimension")


def number_fault(value: float) -> str | None:
    """Return what is wrong with a number that is not finite as float32, behind its column."""
    return None if abs(value) < _FLOAT32_OVERFLOW else f" is {not_finite(value)}"


EMPTY = " is empty; remove or repair the row"
"""What is wrong with a cell that holds nothing, behind its column."""
MORE = "more bytes follow the array"


class Table(NamedTuple):
    """Samples in raw units."""

    values: np.ndarray
    """(samples, ...): finite float32, or integers of the type that the file holds; never empty."""
    features: tuple[str, ...] | None
    """The names of the columns of a table, in the order of ``values``; None for other files."""
