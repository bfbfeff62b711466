"""From a file to the samples that a bundle takes, cut alike however they are run."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..bundle.manifest import Input
from ..engines.base import BATCH_ROWS
from ..errors import DataError
from ..readers.open import read_pieces
from ..readers.source import source_name
from ..readers.table import Piece
from ..series.windows import slide

Progress: TypeAlias = Callable[[float], object]

NumberedSamples: TypeAlias = tuple[Any, np.ndarray]
"""The numbers of some rows, counted from 1, and the samples (n, *shape) that end there."""

Results: TypeAlias = Mapping[str, NDArray[Any] | float]
"""Arrays with one entry a sample, the first of them the main one; a number holds for every sample."""

Batch: TypeAlias = tuple[Any, Results]

UNIT_VALUES = 2**20
"""At most so many numbers in a unit of work, four megabytes of float32, unless one sample has more."""
UNIT_ROWS = 2**14


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
    expected: Input,
    path: Path,
    progress: Progress | None = None,
    *,
    times: list[NDArray[np.datetime64] | None] | None = None,
) -> Iterator[NumberedSamples]:
    """Read a file, or standard input, as samples for a bundle.

    For a bundle that was trained on windows, a table of readings becomes windows as in training; samples
    of the window's shape are taken as they are.

    Args:
        expected: what the bundle takes.
        path: the file, or ``-``.
        progress: called with the share of it that was read.
        times: where it is given, the times of the rows are read too and put here, (n,) for each piece.

    Raises:
        DataError: the file cannot be read, or has no window.
    """
    timed = expected.window is not None or times is not None

    def read() -> Iterator[Piece]:
        for piece in read_pieces(path, columns=expected.features, times=timed):
            if times is not None:
                times.append(piece.times)
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
    channels, where = expected.shape[-1], source_name(path)
    if first.values.shape[1] != channels:
        raise DataError(
            f"{where}: a reading has {first.values.shape[1]} values, the bundle's windows are of {channels}"
        )
    for rows, found in slide(pieces, expected.window, expected.stride or 1, where):
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
        raise DataError(f"{error} (counted from row {rows[0]:,} of {source_name(path)})") from error
