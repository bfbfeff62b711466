"""Reading what is known about the rows: a label for each, or the periods of a series that were abnormal."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError
from edgeae_runtime.readers import read

_IDX_LABELS = b"\0\0\x08\x01"
"""First bytes of an IDX file of bytes with one dimension."""


def read_labels(path: Path) -> NDArray[Any]:
    """Read labels.

    Args:
        path: a ``.csv`` of one column with a header, a ``.npy`` or ``.npz`` of one dimension, an IDX file
            of one dimension (plain or gzipped), or a ``.json`` file: a list of labels, or of the periods
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
    if path.suffix == ".csv":
        return _from_csv(path)
    values = _from_numpy(path) if path.suffix in (".npy", ".npz") else _from_idx(path)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or not len(values):
        raise DataError(f"{path}: has shape {values.shape}, expected one label a row, (rows,)")
    return _tidy(values)


def _from_csv(path: Path) -> NDArray[Any]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = [cells for cells in csv.reader(file) if cells] or [[]]
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); write it again as UTF-8 text") from error
    if len(header) != 1:
        raise DataError(f"{path}: has {len(header)} columns, expected one, of labels; keep only that one")
    fault = next((i for i, cells in enumerate(rows, 1) if len(cells) != 1 or not cells[0].strip()), None)
    if fault or not rows:
        raise DataError(f"{path}: row {fault or 1} does not hold one label; give one to every row")
    return _tidy(np.array([cells[0].strip() for cells in rows]))


def _from_numpy(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, allow_pickle=False)
        if found.dtype.kind in "US":
            return found.astype(str)
    except (ValueError, OSError, EOFError, AttributeError):
        pass  # an .npz, or damaged: what reads samples knows both, and words for what is wrong
    return read(path).values


def _from_idx(path: Path) -> NDArray[Any]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); write it again") from error
    count = int.from_bytes(content[4:8])
    if content[:4] != _IDX_LABELS or len(content) != 8 + count:
        raise DataError(
            f"{path}: does not hold labels; expected a .csv, .npy, .npz or .json, or an IDX file of one "
            "dimension"
        )
    return np.frombuffer(content, np.uint8, offset=8)


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
