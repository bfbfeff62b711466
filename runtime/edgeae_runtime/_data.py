"""Reading samples: CSV, Parquet, .npy, .npz and IDX files become checked arrays in raw units.

What is wrong with a file is reported with its place: rows are counted from 1 everywhere, lines as in an
editor.
"""

import gzip
import math
import re
import struct
import textwrap
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np

from ._csv import PIECE_VALUES, Csv, Piece, listed
from ._errors import DataError, EdgeaeError, import_extra
from ._manifest import as_samples

_KNOWN = ".csv, .parquet, .npy, .npz or IDX (named …-ubyte, ….idx or …-idx3-…, plain or .gz)"
_MORE = "more bytes follow the array"
_IDX_NAME = re.compile(r"(-ubyte|\.idx|-idx\d-.*)(\.gz)?$")
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

MOST_AT_ONCE = 2**26


class Table(NamedTuple):
    """Samples in raw units."""

    values: np.ndarray
    """(samples, ...): finite float32, or integers of the type that the file holds; never empty."""
    features: tuple[str, ...] | None
    """The names of the columns of a table, in the order of ``values``; None for other files."""


def read(path: Path, *, columns: Sequence[str] | None = None) -> Table:
    """Read the samples of a file, whose name determines its format.

    - ``.csv``: comma-separated UTF-8 text with a header line; blank lines are skipped.
    - ``.parquet``: a column of dates is no feature.
    - ``.npy``: one array; of one dimension, it is taken as samples of one value.
    - ``.npz``: its only array, or of several the one called ``data``, else ``x``.
    - IDX, the format of MNIST, plain or gzipped.

    Of a table the ``columns`` are read, in this order, else all.

    Raises:
        DataError: the file cannot be read, or does not hold samples that are finite numbers.
    """
    with _named_errors(path):
        features, pieces = _open(path, columns, times=False)
        values = [piece.values for piece in pieces]
        return Table(values[0] if len(values) == 1 else np.concatenate(values), features)


def read_pieces(path: Path, *, columns: Sequence[str] | None = None, times: bool = False) -> Iterator[Piece]:
    """Read a file as `read` does, but of a table or a large ``.npy`` no more than a piece is in memory.

    With ``times`` the samples are readings of a series: a column of times is then no feature, and comes with
    each piece.
    """
    with _named_errors(path):
        yield from _open(path, columns, times=times)[1]


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (EdgeaeError, GeneratorExit):
        raise
    except Exception as error:  # on damaged files zipfile, zlib and numpy raise a dozen unrelated types
        reason = textwrap.shorten(f"{type(error).__name__}: {error}".rstrip(": "), 160, placeholder=" …")
        remedy = "save it as UTF-8 text" if isinstance(error, UnicodeError) else "write it again or rename it"
        raise DataError(f"{path}: cannot be read ({reason}); {remedy}") from error


def _open(
    path: Path, columns: Sequence[str] | None, *, times: bool
) -> tuple[tuple[str, ...] | None, Iterator[Piece]]:
    if not path.is_file():
        raise DataError(f"{path}: is a folder; name a file" if path.is_dir() else f"{path}: no such file")
    if not path.stat().st_size:
        raise DataError(f"{path}: is empty (0 bytes); write it again")
    name = path.name.lower()
    if name.endswith(".csv"):
        table = Csv(path, columns, times=times, series=times)
        return table.features, table.pieces()
    if name.endswith(".parquet"):
        import_extra("pyarrow")
        from ._arrow import ArrowTable

        parquet = ArrowTable(path, columns, label=None, series=times, where=str(path))
        return parquet.features, parquet.pieces()
    if name.endswith(".npy") and path.stat().st_size > MOST_AT_ONCE:
        return None, _mapped(path)
    if name.endswith(".npy"):
        with path.open("rb") as file:
            values = _read_array(file, str(path))
    elif name.endswith(".npz"):
        values = _read_npz(path)
    elif _IDX_NAME.search(name):
        values = _read_idx(path)
    else:
        raise DataError(f"{path}: unknown kind of file, expected {_KNOWN}; convert or rename it")
    return None, iter([Piece(as_samples(values, where=str(path)))])


def _mapped(path: Path) -> Iterator[Piece]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    array = array[:, np.newaxis] if array.ndim == 1 else array
    rows = max(1, PIECE_VALUES // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        part = as_samples(array[start : start + rows], where=str(path), first_row=start + 1)
        yield Piece(part, read=(start + len(part)) / len(array))


def _read_npz(path: Path) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        chosen = names if len(names) == 1 else [name for name in ("data", "x") if name in names]
        if not chosen:
            raise DataError(f"{path}: expected one array, 'data' or 'x', found {listed(names)}; rename one")
        with archive.open(f"{chosen[0]}.npy") as file:
            return _read_array(file, str(path))


def _read_array(file: IO[bytes], where: str) -> np.ndarray:
    try:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{where}: holds Python objects, expected numbers; save it as float32") from error
        raise
    if file.read(1):  # reading on to the end also makes zipfile compare its checksum
        raise ValueError(_MORE)
    return array[:, np.newaxis] if array.ndim == 1 else array


def _read_idx(path: Path) -> np.ndarray:
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
        raise ValueError(_MORE)
    return np.frombuffer(content, kind_of).reshape(shape).copy()  # writable
