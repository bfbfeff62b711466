"""Training data: what the runtime reads, plus the data sets that scikit-learn ships; scaling; splitting."""

import warnings
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError, Scaler
from edgeae_runtime._data import Data, as_samples, read
from edgeae_runtime._errors import EdgeaeWarning

ScalerKind: TypeAlias = Literal["minmax", "standard"]

NAMED_AT_MOST = 5
"""Columns that a message names before it only counts them."""
LEAST_SPREAD = 1e-30
"""In raw units: a column that spans less is constant. One over it, and over a standard deviation a hundred
million times less, is still a float32."""


def load_data(source: str) -> Data:
    """Read training data.

    Args:
        source: a file that the runtime reads, or ``digits``: scikit-learn's 1,797 images of 8x8.

    Raises:
        DataError: the file cannot be read, or holds text, NaN or infinity.
    """
    if source != "digits":
        return read(Path(source))
    from sklearn.datasets import load_digits

    return Data(as_samples(load_digits().images), None)


def split(rows: NDArray[Any], validation_split: float, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return training and held-out rows, drawn at random.

    Raises:
        DataError: too few rows for either part to have one.
    """
    held_out = round(len(rows) * validation_split)
    if not 0 < held_out < len(rows):
        raise DataError(
            f"{len(rows)} rows with a validation split of {validation_split:g} leave {held_out} held out and "
            f"{len(rows) - held_out} for training; both need at least one"
        )
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows[order[held_out:]], rows[order[:held_out]]


def fit_scaler(rows: NDArray[Any], kind: ScalerKind, features: tuple[str, ...] | None) -> Scaler:
    """Fit a scaler on training rows (n, *shape) in raw units.

    A table is scaled column by column. Images (two axes or more) are scaled as a whole, since a pixel
    that is black in all of them has no range of its own. A constant column is centred and left unscaled,
    so that a later departure from the constant shows in raw units. Constant is also what float32, in
    which every artifact computes, cannot tell apart or cannot stretch to a range of one.

    Raises:
        DataError: all values are the same, so there is nothing to learn; or a range is beyond float32's.
        (warning) EdgeaeWarning: some columns are constant.
    """
    axis = 0 if rows.ndim == 2 else None
    low, high = (np.atleast_1d(f(rows, axis=axis)).astype(np.float32) for f in (np.min, np.max))
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
        offset, span = (np.atleast_1d(f(rows, axis=axis, dtype=np.float64)) for f in (np.mean, np.std))
    # float32 is what every artifact computes with; record exactly the numbers that will be used
    gain = (1 / np.where(constant, 1.0, span)).astype(np.float32)
    shift = np.where(constant, low, offset).astype(np.float32)
    return Scaler(kind=kind, offset=tuple(shift.tolist()), gain=tuple(gain.tolist()))


def _named(columns: NDArray[np.intp], features: tuple[str, ...] | None) -> str:
    names = [features[i] if features else str(i + 1) for i in columns[:NAMED_AT_MOST]]
    more = f" and {len(columns) - NAMED_AT_MOST} more" if len(columns) > NAMED_AT_MOST else ""
    return ", ".join(names) + more
