"""Reading a CSV piece by piece: numbers, and where wanted one column of times and one of labels."""

import csv
import itertools
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import listed
from ..errors import DataError
from .source import Source
from .table import (
    EMPTY,
    LEAST_PIECE_ROWS,
    PIECE_VALUES,
    SNIFFED_ROWS,
    OpenTable,
    Piece,
    Wanted,
    choose,
    column_roles,
    number_fault,
)
from .text import MAX_PASSAGE_BYTES, Lines, PassageTooLong
from .times import is_time, parse_times, time_fault

_TIME_WIDTH = 48
_FEWER = 64
"""By so much there are fewer rows in a piece where their text is too long."""


def read(source: Source, wanted: Wanted) -> OpenTable:
    """Open a CSV with a header: the first rows say what its columns hold.

    Raises:
        DataError: no header, no rows, a column that is missing, named twice, or holds text.
    """
    return _Csv(source, wanted).opened()


class _Csv:
    def __init__(self, source: Source, wanted: Wanted) -> None:
        self._source, self._where = source, source.where
        self._lines = Lines(source)
        _, cells = next(self._records(), (0, []))
        self._header = [cell.strip() for cell in cells]
        if all(_number(name) is not None for name in self._header):
            found = listed(self._header)
            raise DataError(f"{self._where}: the first line must name the columns, found {found}; add them")
        self._places = {name: place for place, name in enumerate(self._header)}
        self._features, self._label = choose(self._where, self._header, wanted)
        self._lines.mark(1)
        rows: list[list[str]] = []
        with suppress(PassageTooLong):  # fewer will do
            records = itertools.islice(self._records(), SNIFFED_ROWS if wanted.times else 1)
            rows.extend(cells for _, cells in records)
        if not rows:
            raise DataError(f"{self._where}: has no rows; give at least one sample")
        self._lines.rewind()
        self._time: str | None = None
        if wanted.times:
            rows = [row for row in rows if len(row) == len(self._header)]
            kinds = {n: _kind_of([row[i].strip() for row in rows]) for i, n in enumerate(self._header)}
            kinds.pop(self._label or "", None)
            self._features, self._time = column_roles(self._where, self._features, kinds, wanted)

    def opened(self) -> OpenTable:
        return OpenTable(self._where, self._features, self._pieces())

    def _pieces(self) -> Iterator[Piece]:
        numbers = [f"f{self._places[name]}" for name in self._features]
        rows = most = max(LEAST_PIECE_ROWS, PIECE_VALUES // max(1, len(numbers)))
        kinds: dict[str | None, Any] = dict.fromkeys(self._features, np.float32)
        kinds |= {self._time: f"U{_TIME_WIDTH}", self._label: object}
        # one field a column, so that numpy checks the length of each row, which it does not with `usecols`
        fields = np.dtype([("", kinds.get(name, "U1")) for name in self._header])
        row = 1
        while True:
            self._lines.mark(row)
            try:
                with warnings.catch_warnings():  # blank lines and the end of the file
                    warnings.simplefilter("ignore", UserWarning)
                    table = np.loadtxt(
                        self._lines.lines, fields, None, ",", ndmin=1, quotechar='"', max_rows=rows
                    )
                if not len(table):
                    return
                piece = self._piece(table, numbers)
            except PassageTooLong as error:  # of many rows, or of one whose quote never ends
                if rows == 1:
                    raise DataError(
                        f"{self._where}: row {row} (line {self._lines.marked + 1}) has {error}; close its "
                        "quote, or leave such text out"
                    ) from None
                rows = max(1, rows // _FEWER)
                self._lines.rewind()
                continue
            except UnicodeError:
                raise
            except (ValueError, DataError):
                self._lines.rewind()
                self._raise_first_fault()
                raise
            if self._lines.passed() < MAX_PASSAGE_BYTES // 4:
                rows = min(most, 2 * rows)
            row += len(table)
            yield piece

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line on which each record behind the mark starts, and its cells, but not blank lines."""
        reader = csv.reader(self._lines.lines)
        before = self._lines.marked
        line = before + 1
        for cells in reader:
            if cells:
                yield line, cells
            line = before + reader.line_num + 1  # not one more than before: a quoted cell may span lines

    def _piece(self, table: NDArray[Any], numbers: list[str]) -> Piece:
        if not numbers:
            values: NDArray[Any] = np.empty((len(table), 0), np.float32)
        elif numbers == list(table.dtype.names or ()):
            values = table.view(np.float32).reshape(len(table), -1)
        else:
            values = np.column_stack([table[name] for name in numbers])
        # NaN and infinity show in the extremes, which unlike isfinite() need no memory of their own
        if numbers and not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise ValueError("not finite")
        times = labels = None
        if self._time is not None:
            times = parse_times(table[f"f{self._places[self._time]}"].tolist())
        if self._label is not None:
            labels = table[f"f{self._places[self._label]}"]
            labels = np.array([str(cell).strip() for cell in labels.tolist()], object)
            if not labels.all():
                raise ValueError("a label is empty")
        return Piece(values, times, labels, self._source.share())

    def _raise_first_fault(self) -> None:
        roles = [
            *((name, _fault) for name in self._features),
            (self._time, _time_fault),
            (self._label, _label_fault),
        ]
        wanted = [(name, self._places[name], check) for name, check in roles if name is not None]
        for row, (line, cells) in enumerate(self._records(), self._lines.row):
            where = f"{self._where}: row {row} (line {line})"
            if len(cells) != len(self._header):
                found = f"{len(cells)} column{'s' * (len(cells) > 1)}"
                raise DataError(f"{where} has {found}, the header names {len(self._header)}; repair the row")
            for name, index, check in wanted:
                if fault := check(cells[index]):
                    raise DataError(f"{where}, column {name!r}{fault}")


def _kind_of(cells: list[str]) -> str:
    if any(_number(cell) is not None for cell in cells) or not any(cells):
        return "number"
    return "time" if any(map(is_time, cells)) else f"text ({next(filter(None, cells))[:40]!r})"


def _fault(cell: str) -> str | None:
    value = _number(cell)
    if value is None:
        return _label_fault(cell) or f": {cell[:80]!r} is not a number; remove or repair the row"
    return number_fault(value)


def _time_fault(cell: str) -> str | None:
    return time_fault(cell[:_TIME_WIDTH])


def _label_fault(cell: str) -> str | None:
    return None if cell.strip() else EMPTY


def _number(cell: str) -> float | None:
    # float() also takes 1_000 and digits of other scripts, which numpy and other readers do not.
    try:
        return float(cell) if cell.strip().isascii() and "_" not in cell else None
    except ValueError:
        return None
