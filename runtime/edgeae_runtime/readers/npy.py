"""NumPy's ``.npy``: one array, which need not fit into memory."""

import math
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import as_samples
from ..errors import DataError
from .source import Source
from .table import MORE, PIECE_VALUES, OpenTable, Piece, Wanted, of_array, refuse_label

MOST_AT_ONCE = 2**26
"""Bytes of a file up to which it is read whole."""


def read(source: Source, wanted: Wanted) -> OpenTable:
    """Open an array (n, ...); of one dimension it is (n, 1).

    Raises:
        DataError: it holds objects, or what cannot be samples.
    """
    if wanted.only_label or source.path.stat().st_size <= MOST_AT_ONCE:
        with source.path.open("rb") as file:
            return of_array(read_array(file, source.where), source.where, wanted)
    refuse_label(source.where, wanted)
    return OpenTable(source.where, None, _mapped(source))


def _mapped(source: Source) -> Iterator[Piece]:
    array = np.load(source.path, mmap_mode="r", allow_pickle=False)
    array = array[:, np.newaxis] if array.ndim == 1 else array
    rows = max(1, PIECE_VALUES // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        part = as_samples(array[start : start + rows], where=source.where, first_row=start + 1)
        yield Piece(part, read=(start + len(part)) / len(array))


def read_array(file: IO[bytes], where: str) -> NDArray[Any]:
    """Return the array of a ``.npy`` file; errors call it ``where``."""
    try:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{where}: holds Python objects, expected numbers; save it as float32") from error
        raise
    if file.read(1):  # reading on to the end also makes zipfile compare its checksum
        raise ValueError(MORE)
    return array
