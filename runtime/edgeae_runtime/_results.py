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
from ._files import check_target, new_file

Results: TypeAlias = Mapping[str, NDArray[Any] | float]
"""Arrays with one entry a sample, the first of them the main one; a number holds for every sample."""


def check_output(out: Path | None) -> None:
    """Refuse, before any work, an output whose format is not known or whose folder does not exist.

    Raises:
        OutputError: with the known formats, or the folder's name.
    """
    if out is None:
        return
    if out.suffix not in (".npy", ".csv", ".jsonl"):
        raise OutputError(f"{out}: unknown output format {out.suffix!r}; use .npy, .csv or .jsonl")
    check_target(out, force=True)


def write_results(results: Results, out: Path | None) -> None:
    """Write results to ``out``, or as JSON lines to standard output.

    Raises:
        OutputError: the disk refuses it; a file that was there before is kept.
    """
    if out is None:
        for line in _json_lines(results):
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        return
    with new_file(out) as path:
        if out.suffix == ".npy":
            np.save(path, next(iter(results.values())))
        elif out.suffix == ".csv":
            with path.open("w", newline="") as file:
                _write_csv(results, file)
        else:
            with path.open("wb") as file:
                file.writelines(_json_lines(results))


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


def _json_lines(results: Results) -> Iterable[bytes]:
    names = ["row", *results]
    encoder = msgspec.json.Encoder()
    for number, row in enumerate(_rows(results), start=1):
        yield encoder.encode(dict(zip(names, (number, *row), strict=True))) + b"\n"


def _write_csv(results: Results, file: IO[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    header = ["row"]
    for name, values in results.items():
        wide = isinstance(values, np.ndarray) and values.ndim == 2
        header += [f"{name}_{i}" for i in range(values.shape[1])] if wide else [name]  # type: ignore[union-attr]
    writer.writerow(header)
    for number, row in enumerate(_rows(results), start=1):
        flat: list[Any] = [number]
        for value in row:
            flat.extend(value if isinstance(value, list) else [value])
        writer.writerow(flat)
