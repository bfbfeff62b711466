"""From a file to the samples that a bundle takes, and from their results to the bytes of a file.

Samples are cut alike however they are run. The results of each batch become bytes on their own, so that
workers may do it, and a file that was cut off behind a batch goes on as if nothing had happened.
"""

import io
import itertools
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ._csv import Piece
from ._data import read_pieces
from ._engines import BATCH_ROWS
from ._errors import DataError, OutputError, import_extra
from ._files import check_file_target
from ._manifest import Input
from ._names import RESULT_SUFFIXES as FORMATS
from ._windows import slide

Progress: TypeAlias = Callable[[float], object]

NumberedSamples: TypeAlias = tuple[Any, np.ndarray]
"""The numbers of some rows, counted from 1, and the samples (n, *shape) that end there."""

Results: TypeAlias = Mapping[str, NDArray[Any] | float]
"""Arrays with one entry a sample, the first of them the main one; a number holds for every sample."""

Batch: TypeAlias = tuple[Any, Results]

UNIT_VALUES = 2**20
"""At most so many numbers in a unit of work, four megabytes of float32, unless one sample has more."""
UNIT_ROWS = 2**14
ROW_GROUP = 2**17


def unit_rows(expected: Input) -> int:
    """Return how many samples make a unit of work: whole batches, unless not even one fits.

    It depends on nothing but the bundle: a quantized model may round a row otherwise in a batch of another
    size, so batches that began elsewhere would give other bits.
    """
    rows = min(UNIT_VALUES // expected.size, UNIT_ROWS)
    return rows // BATCH_ROWS * BATCH_ROWS or max(1, rows)


def sample_units(expected: Input, path: Path, progress: Progress | None = None) -> Iterator[NumberedSamples]:
    """Read a file in units of `unit_rows`, of which only the last may be smaller; see `sample_batches`."""
    size = unit_rows(expected)
    held: list[NumberedSamples] = []
    room = size
    for numbers, samples in sample_batches(expected, path, progress):
        while len(samples):
            held.append((numbers[:room], samples[:room]))
            numbers, samples = numbers[room:], samples[room:]
            room -= len(held[-1][1])
            if not room:
                yield _joined(held)
                held, room = [], size
    if held:
        yield _joined(held)


def _joined(parts: list[NumberedSamples]) -> NumberedSamples:
    if len(parts) == 1:
        return parts[0]
    numbers, samples = zip(*parts, strict=True)
    return np.concatenate(numbers), np.concatenate(samples)


def sample_batches(
    expected: Input, path: Path, progress: Progress | None = None
) -> Iterator[NumberedSamples]:
    """Read a file as samples for a bundle.

    For a bundle that was trained on windows, a table of readings becomes windows as in training; samples
    of the window's shape are taken as they are.

    Raises:
        DataError: the file cannot be read, or has no window.
    """

    def read() -> Iterator[Piece]:
        for piece in read_pieces(path, columns=expected.features, times=expected.window is not None):
            yield piece
            if progress is not None:
                progress(piece.read)

    rest = read()
    first = next(rest)
    pieces = itertools.chain([first], rest)
    if expected.window is None or first.values.ndim > 2:
        row = 1
        for piece in pieces:
            yield np.arange(row, row + len(piece.values)), piece.values
            row += len(piece.values)
        return
    channels = expected.shape[-1]
    if first.values.shape[1] != channels:
        raise DataError(
            f"{path}: a reading has {first.values.shape[1]} values, the bundle's windows are of {channels}"
        )
    for rows, found in slide(pieces, expected.window, expected.stride or 1, path):
        for start in range(0, len(found), BATCH_ROWS):  # a view until it is run: make little of it at once
            yield rows[start : start + BATCH_ROWS], found[start : start + BATCH_ROWS]


def apply(samples: NumberedSamples, run: Callable[[np.ndarray], Results], path: Path) -> Batch:
    """Run samples and keep their rows' numbers; an error states from which row of the file it counts."""
    rows, values = samples
    try:
        return rows, run(values)
    except DataError as error:
        if rows[0] == 1:
            raise
        raise DataError(f"{error} (counted from row {rows[0]:,} of {path})") from error


def check_output(out: Path | None) -> None:
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
