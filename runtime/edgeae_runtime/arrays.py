"""What callers and files give, as checked arrays."""

from collections.abc import Sequence

import numpy as np

from .errors import DataError


def listed(names: Sequence[str]) -> str:
    """Return names for a message, cut where they are many."""
    text = ", ".join(map(repr, names)) or "none"
    return text if len(text) <= 300 else f"{text[:300]} …"


def not_finite(value: float) -> str:
    """Return what is wrong with a value that is not finite as float32."""
    if np.isfinite(value):
        return f"{value}, which does not fit float32; rescale it or remove the row"
    return f"{value}; every value must be finite"


def as_samples(values: object, *, where: str = "input", first_row: int = 1) -> np.ndarray:
    """Check an array of samples; convert floats to float32 and booleans to uint8, keep integers.

    Nothing is copied unless the type changes. Errors call the array ``where``, and count its rows from
    ``first_row``.

    Raises:
        DataError: not numeric, fewer than two dimensions, empty, or not finite as float32.
    """
    array = as_array(values, where=where)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: holds {array.dtype}, expected real numbers; convert it to a numeric type")
    if array.ndim < 2 or not array.size:
        raise DataError(f"{where}: has shape {array.shape}, expected (samples, values), none 0; reshape it")
    if array.dtype.kind == "f":
        return _as_float32(array, where, first_row)
    if array.dtype.kind == "b":
        return array.view(np.uint8)
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # IDX is big-endian


def as_array(values: object, *, where: str = "input") -> np.ndarray:
    """Return ``values`` as an array of whatever type and shape, unless they are of several."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: does not make an array; give numbers, in samples of one shape") from error


def _as_float32(array: np.ndarray, where: str, first_row: int) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found as an infinity below
        samples = array.astype(np.float32, copy=False)
        # NaN and infinity show in the extremes, which unlike isfinite() need no memory of their own.
        if np.isfinite(samples.min()) and np.isfinite(samples.max()):
            return samples
    place = np.unravel_index(np.argmin(np.isfinite(samples)), samples.shape)
    raise DataError(f"{where}: row {place[0] + first_row} holds {not_finite(array[place])}")
