"""JSON lines: an object or an array a line, as loggers write them."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ..errors import DataError
from .source import Source
from .table import (
    EMPTY,
    SNIFFED_ROWS,
    OpenTable,
    Piece,
    Wanted,
    choose,
    column_roles,
    number_fault,
    refuse_label,
)
from .text import open_text
from .times import is_time, parse_times, time_fault

_PIECE_CHARACTERS = 2**19
_WORDS = {dict: "an object", list: "an array", type(None): "null"}


class _Column(NamedTuple):
    """What is read of a line."""

    key: Any
    """A name, or in an array a position."""
    words: str
    type: Any
    fault: Callable[[Any], str | None]
    """Returns what is wrong with a value."""


def read(source: Source, wanted: Wanted) -> OpenTable:
    """Open JSON lines: the columns of objects have names, those of arrays have none.

    Raises:
        DataError: no rows; a column that is missing or holds text; or one of the first lines is not JSON.
    """
    text = open_text(source)
    block = text.readlines(_PIECE_CHARACTERS)
    rows = [value for _, value in islice(_parsed(source.where, block, 1), SNIFFED_ROWS)]
    if not rows:
        raise DataError(f"{source.where}: has no rows; give at least one sample")
    shape, features = type(rows[0]), None
    if shape is dict:
        objects = [row for row in rows if isinstance(row, dict)]
        features, columns = _columns_by_name(source.where, objects, wanted)
    elif shape is list and (width := len(rows[0])):
        refuse_label(source.where, wanted)
        columns = [_Column(i, f"value {i + 1}", float | bool, _number_fault) for i in range(width)]
    else:
        raise DataError(
            f"{source.where}: row 1 is {_shown(rows[0])}, expected an object or an array of numbers"
        )
    reader = _Reader(source.where, shape, columns)
    blocks = chain([block], iter(lambda: text.readlines(_PIECE_CHARACTERS), []))
    return OpenTable(source.where, features, reader.pieces(blocks, source.share))


def _columns_by_name(
    where: str, objects: list[dict[str, Any]], wanted: Wanted
) -> tuple[tuple[str, ...], list[_Column]]:
    """Return the features, and all columns: the features first, then the time, then the label."""
    header = list(dict.fromkeys(chain.from_iterable(objects)))
    features, label = choose(where, header, wanted)
    time = None
    if wanted.times:
        kinds = {n: _kind_of([row.get(n) for row in objects]) for n in header if n != label}
        features, time = column_roles(where, features, kinds, wanted)
    columns = [_Column(name, f"column {name!r}", float | bool, _number_fault) for name in features]
    if time is not None:
        columns.append(_Column(time, f"column {time!r}", str, _time_fault))
    if label is not None:
        columns.append(_Column(label, f"column {label!r}", str | int | float | bool, _label_fault))
    return features, columns


class _Reader:
    """Makes pieces of lines."""

    def __init__(self, where: str, shape: type[Any], columns: list[_Column]) -> None:
        self._where, self._shape, self._columns = where, shape, columns
        self._decoder = _decoder(shape, columns)
        self._has_times = any(column.fault is _time_fault for column in columns)
        self._has_labels = any(column.fault is _label_fault for column in columns)

    def pieces(self, blocks: Iterable[list[str]], share: Callable[[], float]) -> Iterator[Piece]:
        """Yield the rows of all blocks in order; a `DataError` names the first row that is wrong."""
        row = line = 1
        for block in blocks:
            count = len(block) - sum(map(str.isspace, block))
            if count:
                yield self._piece(block, row, line, share())
            row, line = row + count, line + len(block)

    def _piece(self, block: list[str], first_row: int, first_line: int, read: float) -> Piece:
        with suppress(ValueError, RecursionError):  # a fault to name, or NaN, as Python writes it, unread
            rows = self._decoder.decode_lines("".join(block)) if self._decoder else []
            if len(rows) == len(block):
                return self._of_cells([msgspec.structs.astuple(row) for row in rows], read)
        return self._of_cells(list(self._checked(block, first_row, first_line)), read)

    def _of_cells(self, rows: list[tuple[Any, ...]], read: float) -> Piece:
        cells = list(zip(*rows, strict=True))
        labels = np.array([str(cell).strip() for cell in cells.pop()], object) if self._has_labels else None
        if labels is not None and not labels.all():
            raise ValueError("a label is empty")
        times = parse_times(cells.pop()) if self._has_times else None
        values = np.empty((len(rows), len(cells)), np.float32)
        with np.errstate(over="ignore"):  # what overflows is found as an infinity below
            for place, column in enumerate(cells):
                values[:, place] = column
        if cells and not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise ValueError("not finite")
        return Piece(values, times, labels, read)

    def _checked(self, block: list[str], first_row: int, first_line: int) -> Iterator[tuple[Any, ...]]:
        value: Any
        for row, (line, value) in enumerate(_parsed(self._where, block, first_line), first_row):
            where = f"{self._where}: row {row} (line {line})"
            if not isinstance(value, self._shape):
                raise DataError(
                    f"{where} is {_shown(value)}, the first is {_WORDS[self._shape]}; write all alike"
                )
            if self._shape is list and len(value) != len(self._columns):
                found = f"{len(value)} value{'s' * (len(value) != 1)}"
                raise DataError(f"{where} has {found}, the first has {len(self._columns)}; repair the row")
            get = value.get if self._shape is dict else value.__getitem__
            cells = tuple(get(column.key) for column in self._columns)
            for column, cell in zip(self._columns, cells, strict=True):
                if fault := column.fault(cell):
                    raise DataError(f"{where}, {column.words}{fault}")
            yield cells


def _decoder(shape: type, columns: list[_Column]) -> msgspec.json.Decoder[Any] | None:
    """Return what decodes the columns alone, many times as fast; None where a name has quotes or the like."""
    names = [f"c{i}" for i in range(len(columns))]
    try:
        row = msgspec.defstruct(
            "Row",
            [(name, column.type) for name, column in zip(names, columns, strict=True)],
            rename={} if shape is list else {n: c.key for n, c in zip(names, columns, strict=True)},
            array_like=shape is list,
            forbid_unknown_fields=shape is list,
            gc=False,
        )
    except ValueError:
        return None
    return msgspec.json.Decoder(row)


def _parsed(where: str, lines: Iterable[str], first: int) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each line that is not blank."""
    for number, line in enumerate(lines, first):
        if line.isspace():
            continue
        try:
            yield number, json.loads(line.rstrip("\n"))
        except (ValueError, RecursionError) as error:
            at = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            reason = getattr(error, "msg", str(error))
            raise DataError(
                f"{where}: line {number}{at} is not JSON ({reason}); each line holds an object or an array, "
                "repair it"
            ) from None


def _kind_of(cells: list[Any]) -> str:
    known = [cell for cell in cells if cell is not None and cell != ""]
    if any(isinstance(cell, int | float) for cell in known) or not known:
        return "number"
    if any(isinstance(cell, str) and is_time(cell) for cell in known):
        return "time"
    return f"text ({known[0][:40]!r})" if isinstance(known[0], str) else _shown(known[0])


def _number_fault(value: Any) -> str | None:
    if value is None or value == "":
        return EMPTY
    if not isinstance(value, int | float):
        return f": {_shown(value)} is not a number; remove or repair the row"
    try:
        return number_fault(float(value))
    except OverflowError:
        return number_fault(math.inf if value > 0 else -math.inf)


def _time_fault(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return time_fault(value or "")
    return f": {_shown(value)} is not a date as text; remove or repair the row, or leave the column out"


def _label_fault(value: Any) -> str | None:
    if isinstance(value, dict | list):
        return f": {_shown(value)} is not a label; remove or repair the row"
    return None if value is not None and str(value).strip() else EMPTY


def _shown(value: Any) -> str:
    """Return a value for a message."""
    return _WORDS.get(type(value)) or repr(value[:80] if isinstance(value, str) else value)
