"""IDX files, the format of MNIST."""

import math
import struct
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import as_samples
from ..errors import DataError
from .source import Source
from .table import MORE, PIECE_VALUES, OpenTable, Piece, Wanted, of_array, refuse_label

MAX_SAMPLE_VALUES = 2**26
_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(source: Source, wanted: Wanted) -> OpenTable:
    """Open an IDX file of samples, or of labels where these alone are wanted.

    Raises:
        DataError: it holds the other of the two, or a sample has more than `MAX_SAMPLE_VALUES`.
        ValueError: it is no IDX file.
    """
    file = source.open()
    zeros, kind, dimensions = struct.unpack(">HBB", file.read(4))
    if zeros or kind not in _TYPES:
        raise ValueError("its first bytes are not those of an IDX file")
    shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
    arrays = _arrays(file, np.dtype(_TYPES[kind]), shape)
    if dimensions == 1:
        if not wanted.only_label:
            raise DataError(
                f"{source.where}: holds labels (one dimension), not samples; name the file of the images"
            )
        return of_array(np.concatenate(list(arrays)), source.where, wanted)
    refuse_label(source.where, wanted)
    if not math.prod(shape):
        as_samples(np.empty(shape), where=source.where)  # which refuses it
    if math.prod(shape[1:]) > MAX_SAMPLE_VALUES:
        raise DataError(
            f"{source.where}: a sample of shape {shape[1:]} is too large; cut it into smaller ones"
        )

    def pieces() -> Iterator[Piece]:
        row = 1
        for array in arrays:
            yield Piece(as_samples(array, where=source.where, first_row=row), read=source.share())
            row += len(array)

    return OpenTable(source.where, None, pieces())


def _arrays(file: IO[bytes], kind: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """Yield the samples (n, *shape[1:]), some at a time."""
    values = math.prod(shape[1:])
    size, expected = values * kind.itemsize, math.prod(shape) * kind.itemsize
    most = max(1, PIECE_VALUES // values)
    for start in range(0, shape[0], most):
        wanted = min(most, shape[0] - start) * size
        content = file.read(wanted)
        if len(content) < wanted:
            raise EOFError(f"{expected - start * size - len(content)} of {expected} bytes are missing")
        yield np.frombuffer(bytearray(content), kind).reshape(-1, *shape[1:])  # writable
    if file.read(1):  # reading on to the end also compares the checksum of what was compressed
        raise ValueError(MORE)
