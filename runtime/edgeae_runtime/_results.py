"""Results as the bytes of a file, one row a sample: ``.npy``, ``.csv``, JSON lines or ``.parquet``.

Each batch becomes bytes on its own, so that workers may do it, and a file that was cut off behind a batch
goes on as if nothing had happened.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ._errors import OutputError
from ._extras import import_extra
from ._files import check_file_target

Results: TypeAlias = Mapping[str, NDArray[Any] | float]
"""Arrays with one entry a sample, the first of them the main one; a number holds for every sample."""

Batch: TypeAlias = tuple[Iterable[int], Results]
"""The numbers of some rows, counted from 1, and their results."""

FORMATS = (".npy", ".csv", ".jsonl", ".parquet")
ROW_GROUP = 2**17
"""Rows of a Parquet file's row group."""


def check_output(out: Path | None) -> None:
    """Refuse, before any work, an output of an unknown format, or where no file can be.

    Raises:
        OutputError: with the known formats, or the folder's name.
    """
    if out is None:
        return
    if out.suffix not in FORMATS:
        known = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise OutputError(f"{out}: unknown output format {out.suffix!r}; use {known}")
    check_file_target(out)


def encode(batch: Batch, suffix: str, *, first: bool) -> bytes:
    """Return a batch as the next bytes of a result file of that suffix.

    Args:
        batch: the rows.
        suffix: one of `FORMATS`; of ``.npy`` the main result alone is kept.
        first: whether the file begins here.
    """
    numbers, results = batch
    if suffix == ".jsonl":
        return _json_lines(numbers, results)
    if suffix == ".csv":
        return _csv_lines(numbers, results, first)
    array = next(iter(results.values())) if suffix == ".npy" else _records(numbers, results)
    assert isinstance(array, np.ndarray)
    header = io.BytesIO()
    if first:
        _write_header(header, array.dtype, (0, *array.shape[1:]))
    return header.getvalue() + array.tobytes()


def finish(partial: Path, suffix: str) -> Path:
    """Make the file that was asked for from a file of what `encode` gave, one after another.

    Returns:
        Its path: the same, or another beside it. The partial one can still be cut off and go on.
    """
    if suffix in (".npy", ".parquet"):
        _count_rows(partial)
    return _to_parquet(partial) if suffix == ".parquet" else partial


def _write_header(file: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _count_rows(path: Path) -> None:
    """Write how many rows a ``.npy`` file has into its header, where numpy leaves room for that."""
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        row = np.zeros(shape[1:], dtype).nbytes
        rows = (path.stat().st_size - file.tell()) // row
        file.seek(0)
        _write_header(file, dtype, (rows, *shape[1:]))


def _records(numbers: Iterable[int], results: Results) -> NDArray[Any]:
    """Return rows as records, which `_to_parquet` turns into columns."""
    rows = np.fromiter(numbers, np.int64)
    columns: dict[str, Any] = {"row": rows} | {name: np.asarray(values) for name, values in results.items()}
    kinds = [(name, v.dtype, v.shape[1:]) for name, v in columns.items()]
    records = np.empty(len(rows), kinds)
    for name, values in columns.items():
        records[name] = values
    return records


def _to_parquet(partial: Path) -> Path:
    pa, pq = import_extra("pyarrow"), import_extra("pyarrow.parquet")
    records = np.load(partial, mmap_mode="r", allow_pickle=False)
    finished = partial.with_name(f"{partial.name}.finished")
    schema = _table(pa, records[:0]).schema
    try:
        with pq.ParquetWriter(finished, schema, use_dictionary=False) as writer:
            for start in range(0, len(records), ROW_GROUP):
                writer.write_table(_table(pa, records[start : start + ROW_GROUP]))
    except BaseException:
        finished.unlink(missing_ok=True)
        raise
    return finished


def _table(pa: Any, records: NDArray[Any]) -> Any:
    return pa.table({name: _column(pa, records[name]) for name in records.dtype.names or ()})


def _column(pa: Any, values: NDArray[Any]) -> Any:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as aligned text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def _json_lines(numbers: Iterable[int], results: Results) -> bytes:
    rows = np.fromiter(numbers, np.int64).tolist()
    columns = [v.tolist() if isinstance(v, np.ndarray) else [v] * len(rows) for v in results.values()]
    names = ["row", *results]
    lines = [dict(zip(names, cells, strict=True)) for cells in zip(rows, *columns, strict=True)]
    return msgspec.json.Encoder().encode_lines(lines)


def _csv_lines(numbers: Iterable[int], results: Results, first: bool) -> bytes:
    names, columns = ["row"], [np.fromiter(numbers, np.int64).tolist()]
    for name, values in results.items():
        if not isinstance(values, np.ndarray):
            names, columns = [*names, name], [*columns, [values] * len(columns[0])]
        elif values.ndim == 2:
            names += [f"{name}_{i}" for i in range(values.shape[1])]
            columns += values.T.tolist()
        else:
            names, columns = [*names, name], [*columns, values.tolist()]
    # numbers and truth values only, which msgspec writes ten times faster than the csv module
    rows = msgspec.json.encode(list(zip(*columns, strict=True)))[2:-2].replace(b"],[", b"\n") + b"\n"
    rows = rows.replace(b"true", b"True").replace(b"false", b"False")
    return ",".join(names).encode() + b"\n" + rows if first else rows
