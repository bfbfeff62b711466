"""The scaler: offset and gain of each feature, from the training rows."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError, Scaler
from edgeae_runtime.errors import EdgeaeWarning

from ..config import ScalerKind
from .spill import steps

MOST_NAMED_COLUMNS = 5
"""Most columns that a message names; of more it gives the number."""
LEAST_SPREAD = 1e-30
"""Least range, in raw units, of a column that is not constant. One over it, and over a standard deviation
a hundred million times less, is still a float32."""


def fit_scaler(
    rows: NDArray[Any], kind: ScalerKind, features: tuple[str, ...] | None, *, series: bool = False
) -> Scaler:
    """Fit a scaler on training rows (n, *shape) in raw units.

    A table is scaled column by column, and so are the channels of windows (``series``), where a reading
    counts as often as it is in a window. Images (two axes or more) are scaled as a whole, since a pixel
    that is black in all of them has no range of its own. A constant column is centred and left unscaled,
    so that a later departure from the constant shows in raw units. Constant is also what float32, in
    which every artifact computes, cannot distinguish or cannot stretch to a range of one.

    Raises:
        DataError: all values are the same, so there is nothing to learn; or a range is beyond float32's.
        (warning) EdgeaeWarning: some columns are constant.
    """
    columns = rows.shape[-1] if rows.ndim == 2 or series else 1
    low, high, mean, deviation = _statistics(rows, columns)
    spread = high.astype(np.float64) - low
    constant = spread < LEAST_SPREAD
    if constant.all():
        raise DataError("every column is constant in the training rows; there is nothing to learn")
    if np.any(too_wide := spread > np.finfo(np.float32).max):
        raise DataError(
            f"the range of column {_named(np.flatnonzero(too_wide), features)} is beyond what float32 holds; "
            "rescale it or leave it out"
        )
    if constant.any():
        warnings.warn(
            f"constant in the training rows: column {_named(np.flatnonzero(constant), features)}; "
            "centred and left unscaled",
            EdgeaeWarning,
            stacklevel=2,
        )
    if kind == "minmax":
        offset, span = low, spread
    else:
        offset, span = mean, deviation
    # float32 is what every artifact computes with; record exactly the numbers that will be used
    gain = (1 / np.where(constant, 1.0, span)).astype(np.float32)
    shift = np.where(constant, low, offset).astype(np.float32)
    return Scaler(kind=kind, offset=tuple(shift.tolist()), gain=tuple(gain.tolist()))


def _statistics(rows: NDArray[Any], columns: int) -> tuple[NDArray[Any], ...]:
    """Return least and largest value (float32), mean and standard deviation (float64), each (columns,).

    Over rows (n, …) whose last axis is that of the columns, or all as one column; in one pass over steps
    of a bounded size, by Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances" (1979), equation 2.1.
    """
    low, high = np.full(columns, np.inf, np.float32), np.full(columns, -np.inf, np.float32)
    count, mean, squares = 0, np.zeros(columns), np.zeros(columns)
    for step in steps(rows):
        flat = step.reshape(-1, columns)
        low = np.minimum(low, flat.min(axis=0).astype(np.float32))
        high = np.maximum(high, flat.max(axis=0).astype(np.float32))
        here = flat.mean(axis=0, dtype=np.float64)
        total = count + len(flat)
        moved = here - mean
        squares += np.square(flat - here).sum(axis=0) + np.square(moved) * (count * len(flat) / total)
        mean = mean + moved * (len(flat) / total)
        count = total
    return low, high, mean, np.sqrt(squares / count)


def _named(columns: NDArray[np.intp], features: tuple[str, ...] | None) -> str:
    names = [features[i] if features else str(i + 1) for i in columns[:MOST_NAMED_COLUMNS]]
    more = f" and {len(columns) - MOST_NAMED_COLUMNS} more" if len(columns) > MOST_NAMED_COLUMNS else ""
    return ", ".join(names) + more
