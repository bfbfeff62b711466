"""Writing what was computed, one row a sample: ``.npy``, ``.csv``, or JSON lines."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ._errors import OutputError
from ._files import check_file_target, new_file

Results: TypeAlias = Mapping[str, NDArray[Any] | float]
"""Arrays with one entry a sample, the first of them the main one; a number holds for every sample."""

Batch: TypeAlias = tuple[Iterable[int], Results]
"""The numbers of some rows, counted from 1, and their results."""


def check_output(out: Path | None) -> None:
    """Refuse, before any work, an output of an unknown format, or where no file can be.

    Raises:
        OutputError: with the known formats, or the folder's name.
    """
    if out is None:
        return
    if out.suffix not in (".npy", ".csv", ".jsonl"):
        raise OutputError(f"{out}: unknown output format {out.suffix!r}; use .npy, .csv or .jsonl")
    check_file_target(out)


def write_results(results: Results, out: Path | None) -> None:
    """Write results to ``out``, or as JSON lines to standard output.

    Raises:
        OutputError: the disk refuses it; a file that was there before is kept.
    """
    count = next(len(values) for values in results.values() if isinstance(values, np.ndarray))
    write_batches([(range(1, count + 1), results)], out)


def write_batches(batches: Iterable[Batch], out: Path | None) -> None:
    """Write results that come in batches, each as it comes, so that only one is in memory.

    Standard output has what came before an error; a file appears only when all is written.

    Args:
        batches: at least one.
        out: the file; a ``.npy`` file holds the first of the results alone.

    Raises:
        OutputError: the disk refuses it; a file that was there before is kept.
    """
    if out is None:
        for batch in batches:
            sys.stdout.buffer.writelines(_json_lines(batch))
            sys.stdout.buffer.flush()
        return
    with new_file(out) as path:
        if out.suffix == ".npy":
            with path.open("wb") as file:
                _write_npy((next(iter(results.values())) for _, results in batches), file)
        elif out.suffix == ".csv":
            with path.open("w", newline="") as text:
                _write_csv(batches, text)
        else:
            with path.open("wb") as file:
                for batch in batches:
                    file.writelines(_json_lines(batch))


def _write_npy(arrays: Iterable[Any], file: IO[bytes]) -> None:
    """Write arrays below each other; how many rows they have is known, and written, at the end."""
    rows = 0
    header: dict[str, Any] = {}
    for array in arrays:
        if not header:
            header = {"descr": array.dtype.str, "fortran_order": False, "shape": (0, *array.shape[1:])}
            np.lib.format.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(array).data)
        rows += len(array)
    file.seek(0)  # numpy leaves room for the number of rows to grow
    np.lib.format.write_array_header_1_0(file, {**header, "shape": (rows, *header["shape"][1:])})


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as aligned text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def _rows(results: Results) -> Iterable[tuple[Any, ...]]:
    """Yield each sample's values as plain Python ones."""
    arrays = [v for v in results.values() if isinstance(v, np.ndarray)]
    count = len(arrays[0])
    columns = [v.tolist() if isinstance(v, np.ndarray) else [v] * count for v in results.values()]
    return zip(*columns, strict=True)


def _json_lines(batch: Batch) -> Iterable[bytes]:
    numbers, results = batch
    names = ["row", *results]
    encoder = msgspec.json.Encoder()
    for number, row in zip(numbers, _rows(results), strict=True):
        yield encoder.encode(dict(zip(names, (int(number), *row), strict=True))) + b"\n"


def _write_csv(batches: Iterable[Batch], file: IO[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    for index, (numbers, results) in enumerate(batches):
        if index == 0:
            writer.writerow(_header(results))
        for number, row in zip(numbers, _rows(results), strict=True):
            flat: list[Any] = [int(number)]
            for value in row:
                flat.extend(value if isinstance(value, list) else [value])
            writer.writerow(flat)


def _header(results: Results) -> list[str]:
    header = ["row"]
    for name, values in results.items():
        if isinstance(values, np.ndarray) and values.ndim == 2:
            header += [f"{name}_{i}" for i in range(values.shape[1])]
        else:
            header.append(name)
    return header
