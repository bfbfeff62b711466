"""Reading what is known about the rows: a label for each, or the periods of a series that were abnormal."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError, readers


def read_labels(path: Path) -> NDArray[Any]:
    """Read labels.

    Args:
        path: a table of one column, such as a ``.csv`` with a header; an array of one dimension, such as a
            ``.npy`` or an IDX file; or a ``.json`` file: a list of labels, or of the periods
            ``[[start, end], …]`` of a series that were abnormal.

    Returns:
        Labels (n,) of integers or text; or periods (m, 2) of datetime64.

    Raises:
        DataError: the file cannot be read or holds something else.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; name one that holds a label for each row")
    if path.suffix == ".json":
        return _from_json(path)
    return _tidy(readers.read_labels(path))


def _from_json(path: Path) -> NDArray[Any]:
    expected = "expected a list of labels, or of periods [start, end]"
    try:
        content = json.loads(path.read_bytes())
        values = np.array(content)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); {expected}") from error
    if not isinstance(content, list) or not len(values):
        raise DataError(f"{path}: {expected}")
    if values.ndim == 1:
        return _tidy(values)
    try:
        periods = values.astype("datetime64[us]")
    except ValueError as error:
        raise DataError(f"{path}: {error}; {expected}, as in 2014-01-27 14:20:00") from error
    if periods.ndim != 2 or periods.shape[1] != 2 or np.any(periods[:, 0] > periods[:, 1]):
        raise DataError(f"{path}: {expected}, each with its start first")
    return periods


def _tidy(values: NDArray[Any]) -> NDArray[Any]:
    """Return labels as integers where they are whole numbers, else as text."""
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    if values.dtype.kind == "f" and np.array_equal(values, np.round(values)):
        return values.astype(np.int64)
    try:
        return values.astype(str).astype(np.int64)
    except ValueError:
        return values.astype(str)
