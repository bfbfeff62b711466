"""NumPy's files: ``.npy``, also one that does not fit into memory, and ``.npz``."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ..arrays import as_samples, listed
from ..errors import DataError
from .table import MORE, PIECE_VALUES, Piece

MOST_AT_ONCE = 2**26


def mapped(path: Path) -> Iterator[Piece]:
    """Yield the samples of a large ``.npy`` file in pieces."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    array = array[:, np.newaxis] if array.ndim == 1 else array
    rows = max(1, PIECE_VALUES // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        part = as_samples(array[start : start + rows], where=str(path), first_row=start + 1)
        yield Piece(part, read=(start + len(part)) / len(array))


def read_npz(path: Path) -> np.ndarray:
    """Return the only array of a ``.npz`` file, or that called ``data`` or ``x``."""
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        chosen = names if len(names) == 1 else [name for name in ("data", "x") if name in names]
        if not chosen:
            raise DataError(f"{path}: expected one array, 'data' or 'x', found {listed(names)}; rename one")
        with archive.open(f"{chosen[0]}.npy") as file:
            return read_array(file, str(path))


def read_array(file: IO[bytes], where: str) -> np.ndarray:
    """Return the array of a ``.npy`` file; errors call it ``where``."""
    try:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{where}: holds Python objects, expected numbers; save it as float32") from error
        raise
    if file.read(1):  # reading on to the end also makes zipfile compare its checksum
        raise ValueError(MORE)
    return array[:, np.newaxis] if array.ndim == 1 else array
