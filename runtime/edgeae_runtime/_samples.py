"""From a file to the samples that a bundle takes, and through it, in bounded memory."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ._data import read_pieces
from ._engines import BATCH_ROWS
from ._errors import DataError
from ._manifest import Input
from ._results import Batch, Results
from ._windows import Slider, slide

Samples: TypeAlias = tuple[Any, np.ndarray]
"""The numbers of some rows, counted from 1, and the samples (n, *shape) that end there."""


def sample_batches(expected: Input, path: Path) -> Iterator[Samples]:
    """Read a file as samples for a bundle.

    For a bundle that was trained on windows, a table of readings becomes windows as in training; samples
    of the window's shape are taken as they are.

    Args:
        expected: what the bundle takes.
        path: a file that `edgeae_runtime._data.read` knows.

    Raises:
        DataError: the file cannot be read, or has no window.
    """
    pieces = read_pieces(path, columns=expected.features, times=expected.window is not None)
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


def apply_to_batches(
    batches: Iterable[Samples], run: Callable[[np.ndarray], Results], path: Path
) -> Iterator[Batch]:
    """Run samples, and keep the numbers of their rows beside the results.

    Raises:
        DataError: as ``run``; the message says from which row of the file its rows are counted.
    """
    for rows, samples in batches:
        try:
            yield rows, run(samples)
        except DataError as error:
            if rows[0] == 1:
                raise
            raise DataError(f"{error} (counted from row {rows[0]:,} of {path})") from error
