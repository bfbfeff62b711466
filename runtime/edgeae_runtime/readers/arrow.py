"""Tables of Apache Arrow, from Parquet files or from memory, in pieces as a CSV is read.

The one module that needs pyarrow (the extra ``parquet``) to be imported.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..arrays import not_finite
from ..errors import DataError
from .source import Source
from .table import EMPTY, LEAST_PIECE_ROWS, PIECE_VALUES, OpenTable, Piece, Wanted, choose, column_roles
from .times import is_time, parse_times, time_fault


def read(source: Source, wanted: Wanted) -> OpenTable:
    """Open a Parquet file.

    Raises:
        DataError: it is none, or as for `read_memory`.
    """
    return _ArrowTable(source.path, wanted, source.where).opened()


def read_memory(table: Any, wanted: Wanted, where: str) -> OpenTable:
    """Open an Arrow table, or what exports one.

    Raises:
        DataError: no rows, a column that is missing, named twice, or holds text.
    """
    return _ArrowTable(table, wanted, where).opened()


class _ArrowTable:
    """A table with known roles of its columns."""

    def __init__(self, source: Any, wanted: Wanted, where: str) -> None:
        self._where = where
        try:
            # buffered ahead, as is the default, the whole file would be in memory
            if isinstance(source, Path):
                self._source = pq.ParquetFile(source, pre_buffer=False, buffer_size=2**20)
                schema, self._rows = self._source.schema_arrow, self._source.metadata.num_rows
            else:
                self._source = pa.table(source)
                schema, self._rows = self._source.schema, self._source.num_rows
        except (pa.ArrowException, OSError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{where}: cannot be read as a table ({reason}); write it again") from error
        if not self._rows:
            raise DataError(f"{where}: has no rows; give at least one sample")
        # an index of pandas that is no time is a number of the row, not a feature
        index = (schema.pandas_metadata or {}).get("index_columns", ())
        header = [f.name for f in schema if f.name not in index or pa.types.is_temporal(f.type)]
        features, self._label = choose(where, header, wanted)
        kinds = {name: self._kind(name, schema.field(name).type) for name in header if name != self._label}
        self._features, self._time = column_roles(where, features, kinds, wanted)

    def opened(self) -> OpenTable:
        return OpenTable(self._where, self._features, self._pieces())

    def _pieces(self) -> Iterator[Piece]:
        names = [*self._features, *(name for name in (self._time, self._label) if name is not None)]
        row = 1
        for batch in self._batches(names):
            columns = {name: self._filled(batch.column(name), name, row) for name in names}
            values = np.empty((len(batch), len(self._features)), np.float32)
            for place, name in enumerate(self._features):
                values[:, place] = self._numbers(columns[name], name, row)
            times = labels = None
            if self._time is not None:
                times = self._times(columns[self._time], row)
            if self._label is not None:
                labels = np.array([str(value) for value in columns[self._label].to_pylist()], object)
            row += len(batch)
            yield Piece(values, times, labels, (row - 1) / self._rows)

    def _batches(self, names: list[str]) -> Iterator[Any]:
        rows = max(LEAST_PIECE_ROWS, PIECE_VALUES // len(names))
        if isinstance(self._source, pa.Table):
            yield from self._source.select(names).to_batches(max_chunksize=rows)
            return
        try:
            yield from self._source.iter_batches(batch_size=rows, columns=names)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{self._where}: cannot be read ({reason}); write it again") from error

    def _kind(self, name: str, kind: Any) -> str:
        types = pa.types
        if types.is_timestamp(kind) or types.is_date(kind):
            return "time"
        numbers = (types.is_floating, types.is_integer, types.is_boolean, types.is_decimal)
        if any(is_one(kind) for is_one in numbers):
            return "number"
        if types.is_dictionary(kind):
            return self._kind(name, kind.value_type)
        if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
            return f"values of type {kind}"
        first = next(self._batches([name])).column(0)[0].as_py() or ""
        return "time" if is_time(first) else f"text ({first[:40]!r})"

    def _filled(self, column: Any, name: str, row: int) -> Any:
        if column.null_count:
            place = pc.index(pc.is_null(column), True).as_py()
            raise DataError(f"{self._where}: row {row + place}, column {name!r}{EMPTY}")
        return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column

    def _numbers(self, column: Any, name: str, row: int) -> NDArray[np.float32]:
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        exact = column.to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):  # what overflows is found as an infinity below
            numbers: NDArray[np.float32] = exact.astype(np.float32)
        if not np.isfinite(numbers).all():
            place = int(np.argmin(np.isfinite(numbers)))
            raise DataError(
                f"{self._where}: row {row + place}, column {name!r} is {not_finite(float(exact[place]))}"
            )
        return numbers

    def _times(self, column: Any, row: int) -> NDArray[np.datetime64]:
        if pa.types.is_temporal(column.type):
            microseconds = column.cast(pa.timestamp("us"), safe=False)
            times: NDArray[np.datetime64] = microseconds.to_numpy(zero_copy_only=False)
            return times
        texts = column.to_pylist()
        try:
            return parse_times(texts)
        except ValueError:
            place, text = next((i, text) for i, text in enumerate(texts) if not is_time(text))
            where = f"{self._where}: row {row + place}, column {self._time!r}"
            raise DataError(f"{where}{time_fault(text)}") from None
