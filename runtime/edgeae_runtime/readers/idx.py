"""IDX files, the format of MNIST."""

import gzip
import math
import re
import struct
from pathlib import Path
from typing import IO, cast

import numpy as np

from ..errors import DataError
from .table import MORE

IDX_NAME = re.compile(r"(-ubyte|\.idx|-idx\d-.*)(\.gz)?$")
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """Return the array of an IDX file, plain or gzipped."""
    gzipped = path.name.lower().endswith(".gz")
    with cast(IO[bytes], gzip.open(path)) if gzipped else path.open("rb") as file:
        zeros, kind, dimensions = struct.unpack(">HBB", file.read(4))
        if zeros or kind not in _IDX_TYPES:
            raise ValueError("its first bytes are not those of an IDX file")
        if dimensions == 1:
            raise DataError(f"{path}: holds labels (one dimension), not samples; name the file of the images")
        shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
        content = file.read()
    kind_of = np.dtype(_IDX_TYPES[kind])
    expected = math.prod(shape) * kind_of.itemsize
    if len(content) < expected:
        raise EOFError(f"{expected - len(content)} of {expected} bytes are missing")
    if len(content) > expected:
        raise ValueError(MORE)
    return np.frombuffer(content, kind_of).reshape(shape).copy()  # writable
