"""From results to the bytes of a file: CSV, Parquet, JSON lines or ``.npy``.

The results of each batch become bytes on their own, so that workers may do it, and a file that was cut off
behind a batch goes on as if nothing had happened.
"""

import io
import itertools
import math
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError
from ..extras import import_extra
from ..files import check_file_target
from ..names import RESULT_SUFFIXES as FORMATS
from .samples import Batch

ROW_GROUP = 2**17


def check_output(out: Path | None) -> None:
    """Refuse a file for results whose format is not known, or which cannot be written."""
    if out is None:
        return
    if out.suffix not in FORMATS:
        known = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise OutputError(f"{out}: unknown output format {out.suffix!r}; use {known}")
    check_file_target(out)


def check_not_input(path: Path, out: Path) -> None:
    """Refuse to replace an input by its result."""
    if os.path.exists(path) and os.path.exists(out) and os.path.samefile(path, out):
        raise OutputError(f"{out}: is the input itself; choose another name")


def encode(batch: Batch, suffix: str, *, first: bool) -> bytes:
    """Return a batch as the next bytes of a result file of one of the `FORMATS`, or as its ``first``.

    Of ``.npy`` the main result alone is kept. What is infinite or NaN is null in JSON.
    """
    numbers, results = batch
    rows = len(numbers)
    columns: dict[str, NDArray[Any]] = {"row": np.asarray(numbers, np.int64)}
    columns |= {n: v if isinstance(v, np.ndarray) else np.full(rows, v) for n, v in results.items()}
    if suffix == ".jsonl":
        lists = zip(*(values.tolist() for values in columns.values()), strict=True)
        lines = [dict(zip(columns, cells, strict=True)) for cells in lists]
        return msgspec.json.Encoder().encode_lines(lines)
    if suffix == ".csv":
        flat: dict[str, NDArray[Any]] = {}
        for name, values in columns.items():
            flat |= {f"{name}_{i}": v for i, v in enumerate(values.T)} if values.ndim > 1 else {name: values}
        # numbers and truth values only, which msgspec writes ten times faster than the csv module
        cells = list(zip(*(v.tolist() for v in flat.values()), strict=True))
        table = msgspec.json.encode(cells)
        if b"null" in table:  # JSON has no word for infinity and NaN
            words = (b"%r" % v for v in itertools.chain.from_iterable(cells) if not math.isfinite(v))
            table = re.sub(b"null", lambda _: next(words), table)
        text = table[2:-2].replace(b"],[", b"\n").replace(b"true", b"True").replace(b"false", b"False")
        return b"%b\n%b\n" % (",".join(flat).encode(), text) if first else text + b"\n"
    if suffix == ".npy":
        array = columns[next(iter(results))]
    else:  # records, which `_to_parquet` turns into columns
        array = np.empty(rows, [(name, v.dtype, v.shape[1:]) for name, v in columns.items()])
        for name, values in columns.items():
            array[name] = values
    header = io.BytesIO()
    if first:
        _write_header(header, array.dtype, (0, *array.shape[1:]))
    return header.getvalue() + array.tobytes()


def finish(partial: Path, suffix: str) -> Path:
    """Make the file that was asked for from a file of what `encode` gave, or another beside it.

    The partial one can still be cut off and go on.
    """
    if suffix in (".npy", ".parquet"):
        _count_rows(partial)
    return _to_parquet(partial) if suffix == ".parquet" else partial


def _write_header(file: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _count_rows(path: Path) -> None:
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        row = np.zeros(shape[1:], dtype).nbytes
        rows = (path.stat().st_size - file.tell()) // row
        file.seek(0)
        _write_header(file, dtype, (rows, *shape[1:]))


def _to_parquet(partial: Path) -> Path:
    pa, pq = import_extra("pyarrow"), import_extra("pyarrow.parquet")
    records = np.load(partial, mmap_mode="r", allow_pickle=False)
    finished = partial.with_name(f"{partial.name}.finished")

    def column(values: NDArray[Any]) -> Any:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])

    def table(rows: NDArray[Any]) -> Any:
        return pa.table({name: column(rows[name]) for name in records.dtype.names})

    try:
        with pq.ParquetWriter(finished, table(records[:0]).schema, use_dictionary=False) as writer:
            for start in range(0, len(records), ROW_GROUP):
                writer.write_table(table(records[start : start + ROW_GROUP]))
    except BaseException:
        finished.unlink(missing_ok=True)
        raise
    return finished
