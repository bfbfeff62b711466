"""Checking samples that are handed over as arrays."""

import numpy as np

from ._errors import DataError


def as_samples(values: object, *, where: str = "input", first_row: int = 1) -> np.ndarray:
    """Check an array of samples; convert floats to float32 and booleans to uint8, keep integers.

    Nothing is copied unless the type changes, so the result may share memory with ``values``.

    Args:
        values: anything that numpy takes as an array, one sample along the first axis.
        where: what errors call the array.
        first_row: the number that errors give its first row.

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
    """Return ``values`` as an array of whatever type and shape.

    Raises:
        DataError: they are of different shapes.
    """
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
    from ._csv import not_finite  # which takes longer to import than a cold start can spare

    place = np.unravel_index(np.argmin(np.isfinite(samples)), samples.shape)
    raise DataError(f"{where}: row {place[0] + first_row} holds {not_finite(array[place])}")
