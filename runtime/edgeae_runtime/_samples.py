"""From a file to the samples that a bundle takes, cut alike however they are run, in bounded memory."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ._csv import Piece
from ._data import read_pieces
from ._engines import BATCH_ROWS
from ._errors import DataError
from ._manifest import Input
from ._results import Batch, Results
from ._windows import Slider, slide

Samples: TypeAlias = tuple[Any, np.ndarray]
"""The numbers of some rows, counted from 1, and the samples (n, *shape) that end there."""

UNIT_VALUES = 2**20
"""At most so many numbers in a unit of work, four megabytes of float32, unless one sample has more."""
UNIT_ROWS = 2**14
"""At most so many samples."""


def unit_rows(expected: Input) -> int:
    """Return how many samples make a unit of work: whole batches, unless not even one fits.

    It depends on nothing but the bundle. A quantized model may round a row otherwise in a batch of another
    size, so batches that began elsewhere, for more threads say, would give other bits.
    """
    rows = min(UNIT_VALUES // expected.size, UNIT_ROWS)
    return rows // BATCH_ROWS * BATCH_ROWS or max(1, rows)


def sample_units(
    expected: Input, path: Path, progress: Callable[[float], None] | None = None
) -> Iterator[Samples]:
    """Read a file as samples for a bundle, in units of `unit_rows`, of which only the last may be smaller.

    Args:
        expected: what the bundle takes.
        path: as for `sample_batches`.
        progress: is told which share of the file has been read.

    Raises:
        DataError: as `sample_batches`.
    """
    size = unit_rows(expected)
    held: list[Samples] = []
    count = 0
    for numbers, samples in sample_batches(expected, path, progress):
        numbers = np.asarray(numbers)
        start = 0
        while start < len(samples):
            stop = min(len(samples), start + size - count)
            held.append((numbers[start:stop], samples[start:stop]))
            count += stop - start
            start = stop
            if count == size:
                yield _joined(held)
                held, count = [], 0
    if held:
        yield _joined(held)


def _joined(parts: list[Samples]) -> Samples:
    if len(parts) == 1:
        return parts[0]
    numbers, samples = zip(*parts, strict=True)
    return np.concatenate(numbers), np.concatenate(samples)


def sample_batches(
    expected: Input, path: Path, progress: Callable[[float], None] | None = None
) -> Iterator[Samples]:
    """Read a file as samples for a bundle.

    For a bundle that was trained on windows, a table of readings becomes windows as in training; samples
    of the window's shape are taken as they are.

    Args:
        expected: what the bundle takes.
        path: a file that `edgeae_runtime._data.read_pieces` knows.
        progress: is told which share of the file has been read.

    Raises:
        DataError: the file cannot be read, or has no window.
    """
    pieces = read_pieces(path, columns=expected.features, times=expected.window is not None)
    if progress is not None:
        pieces = _watched(pieces, progress)
    first = next(pieces)
    pieces = itertools.chain([first], pieces)
    if expected.window is None or first.values.ndim > 2:
        row = 1
        for piece in pieces:
            yield range(row, row + len(piece.values)), piece.values
            row += len(piece.values)
        return
    channels = expected.shape[-1]
    if first.values.shape[1] != channels:
        raise DataError(
            f"{path}: a reading has {first.values.shape[1]} values, the bundle's windows are of {channels}"
        )
    for rows, found in slide(pieces, Slider(expected.window, expected.stride or 1), path):
        for start in range(0, len(found), BATCH_ROWS):  # a view until it is run: make little of it at once
            yield rows[start : start + BATCH_ROWS], found[start : start + BATCH_ROWS]


def _watched(pieces: Iterable[Piece], progress: Callable[[float], None]) -> Iterator[Piece]:
    for piece in pieces:
        yield piece
        progress(piece.read)


def apply(samples: Samples, run: Callable[[np.ndarray], Results], path: Path) -> Batch:
    """Run samples, and keep the numbers of their rows beside the results.

    Raises:
        DataError: as ``run``; the message says from which row of the file its rows are counted.
    """
    rows, values = samples
    try:
        return rows, run(values)
    except DataError as error:
        if rows[0] == 1:
            raise
        raise DataError(f"{error} (counted from row {rows[0]:,} of {path})") from error
