"""Reading a CSV piece by piece: numbers, and where wanted one column of times and one of labels."""

import csv
import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import listed, not_finite
from ..errors import DataError
from .table import LEAST_PIECE_ROWS, PIECE_VALUES, Piece, choose, column_roles
from .times import is_time, parse_times

_SNIFFED_ROWS = 100
"""First rows from which the type of a column is inferred."""
_TIME_WIDTH = 48
_FLOAT32_OVERFLOW = 2.0**128 - 2.0**103  # the least number that float32 rounds to infinity


class Csv:
    """A CSV with a header: the roles of its columns, its rows read in pieces.

    Where times are asked for, a column that holds dates or times is no feature but the time of the row.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str] | None = None,
        *,
        label: str | None = None,
        times: bool = False,
        series: bool = False,
    ) -> None:
        """Read the header, and from the first rows what the columns hold.

        Args:
            path: the file.
            columns: the features, in this order, and the time where several columns may be it.
            label: the column of the labels.
            times: whether to look for a column of times.
            series: whether the times matter: two candidates are then an error, also where none was chosen.

        Raises:
            DataError: no header, no rows, a column that is missing, named twice, or holds text.
        """
        records = _records(path)
        _, cells = next(records, (0, []))
        self.path = path
        self.header = [cell.strip() for cell in cells]
        if all(_number(name) is not None for name in self.header):
            found = listed(self.header)
            raise DataError(f"{path}: the first line must name the columns, found {found}; add them")
        self.features = choose(path, self.header, columns, label)
        first_line, first = next(records, (0, []))
        if not first_line:
            raise DataError(f"{path}: has no rows; give at least one sample")
        self._skip = first_line - 1
        self.label = label
        self.time: str | None = None
        if times:
            rows = [first, *(cells for _, cells in itertools.islice(records, _SNIFFED_ROWS - 1))]
            rows = [row for row in rows if len(row) == len(self.header)]
            kinds = {name: _kind_of([row[i].strip() for row in rows]) for i, name in enumerate(self.header)}
            kinds.pop(label or "", None)
            self.features, self.time = column_roles(path, self.features, kinds, series=series)

    def pieces(self) -> Iterator[Piece]:
        """Yield the rows in order; a `DataError` names the first row that is wrong."""
        numbers = [f"f{self.header.index(name)}" for name in self.features]
        rows = max(LEAST_PIECE_ROWS, PIECE_VALUES // len(numbers))
        # one field a column, so that numpy checks the length of each row, which it does not with `usecols`
        fields = np.dtype([("", self._kind(name)) for name in self.header])
        size = self.path.stat().st_size
        with self.path.open(encoding="utf-8-sig") as file:
            lines = itertools.islice(file, self._skip, None)
            while True:
                try:
                    with warnings.catch_warnings():  # blank lines and the end of the file
                        warnings.simplefilter("ignore", UserWarning)
                        table = np.loadtxt(lines, fields, None, ",", ndmin=1, quotechar='"', max_rows=rows)
                    if not len(table):
                        return
                    piece = self._piece(table, numbers, os.lseek(file.fileno(), 0, os.SEEK_CUR) / size)
                except (ValueError, DataError):
                    self._raise_first_fault()
                    raise
                yield piece

    def _kind(self, name: str) -> Any:
        if name in self.features:
            return np.float32
        return {self.time: f"U{_TIME_WIDTH}", self.label: object}.get(name, "U1")

    def _piece(self, table: NDArray[Any], numbers: list[str], read: float) -> Piece:
        if numbers == list(table.dtype.names or ()):
            values = table.view(np.float32).reshape(len(table), -1)
        else:
            values = np.column_stack([table[name] for name in numbers])
        # NaN and infinity show in the extremes, which unlike isfinite() need no memory of their own
        if not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise ValueError("not finite")
        times = labels = None
        if self.time is not None:
            times = parse_times(table[f"f{self.header.index(self.time)}"].tolist())
        if self.label is not None:
            labels = table[f"f{self.header.index(self.label)}"]
            labels = np.array([str(cell).strip() for cell in labels.tolist()], object)
            if not labels.all():
                raise ValueError("a label is empty")
        return Piece(values, times, labels, read)

    def _raise_first_fault(self) -> None:
        records = _records(self.path)
        next(records)
        roles = [
            *((name, _fault) for name in self.features),
            (self.time, _time_fault),
            (self.label, _label_fault),
        ]
        wanted = [(name, self.header.index(name), check) for name, check in roles if name is not None]
        for row, (line, cells) in enumerate(records, 1):
            where = f"{self.path}: row {row} (line {line})"
            if len(cells) != len(self.header):
                found = f"{len(cells)} column{'s' * (len(cells) > 1)}"
                raise DataError(f"{where} has {found}, the header names {len(self.header)}; repair the row")
            for name, index, check in wanted:
                if fault := check(cells[index]):
                    raise DataError(f"{where}, column {name!r}{fault}")


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each record starts, and its cells; blank lines are left out."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        line = 1
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1  # not one more than before: a quoted cell may span lines


def _kind_of(cells: list[str]) -> str:
    if any(_number(cell) is not None for cell in cells) or not any(cells):
        return "number"
    return "time" if any(map(is_time, cells)) else f"text ({next(filter(None, cells))[:40]!r})"


def _fault(cell: str) -> str | None:
    value = _number(cell)
    if value is None:
        return _label_fault(cell) or f": {cell[:80]!r} is not a number; remove or repair the row"
    return None if abs(value) < _FLOAT32_OVERFLOW else f" is {not_finite(value)}"


def _time_fault(cell: str) -> str | None:
    if is_time(cell[:_TIME_WIDTH]):
        return None
    found = f": {cell[:80]!r} is not a date, as others of the column are" if cell.strip() else " is empty"
    return f"{found}; remove or repair the row, or leave the column out"


def _label_fault(cell: str) -> str | None:
    return None if cell.strip() else " is empty; remove or repair the row"


def _number(cell: str) -> float | None:
    # float() also takes 1_000 and digits of other scripts, which numpy and other readers do not.
    try:
        return float(cell) if cell.strip().isascii() and "_" not in cell else None
    except ValueError:
        return None
