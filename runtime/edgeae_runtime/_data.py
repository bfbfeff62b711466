"""Reading samples: CSV, Parquet, .npy, .npz and IDX files become one checked array in raw units.

Whatever is wrong with a file is told as a `DataError` of one line that names the place. Rows are
counted from 1 everywhere, for arrays too; lines are those that an editor shows.
"""

import gzip
import math
import re
import struct
import textwrap
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from ._arrays import as_samples
from ._csv import PIECE_VALUES, Csv, Piece, listed
from ._errors import DataError, EdgeaeError
from ._extras import import_extra

if TYPE_CHECKING:
    from ._arrow import ArrowTable

_KNOWN = ".csv, .parquet, .npy, .npz or IDX (named …-ubyte, ….idx or …-idx3-…, plain or .gz)"
_IDX_NAME = re.compile(r"(-ubyte|\.idx|-idx\d-.*)(\.gz)?$")
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

MOST_AT_ONCE = 2**26
"""Bytes of a ``.npy`` file beyond which `read_pieces` does not read it whole."""


@dataclass(frozen=True)
class Data:
    """Samples in raw units."""

    values: np.ndarray
    """(samples, ...): finite float32, or integers of the type that the file holds; never empty."""

    features: tuple[str, ...] | None
    """The names of the columns of a table, in the order of ``values``; None for other files."""

    labels: np.ndarray | None = None
    """(samples,): integers or text, where a column of labels was named."""

    timestamps: np.ndarray | None = None
    """(samples,), ``datetime64[us]``: the time of a row, or of the last reading of a window."""

    window: int | None = None
    """Readings in one sample, (samples, window, channels); None where samples are no windows."""

    stride: int | None = None
    """Readings from the start of one window to the start of the next."""

    segments: tuple[tuple[range, ...], ...] | None = None
    """Of samples that lie in order of time: for each file, and in it for each uninterrupted stretch, the
    positions at which its samples start, counted in readings of the file. None where order means nothing."""


def read(path: Path, *, columns: Sequence[str] | None = None) -> Data:
    """Read the samples of a file, whose name tells its format.

    - ``.csv``: comma-separated UTF-8 text with a header line; blank lines are skipped.
    - ``.parquet``, where pyarrow is installed: a column of dates is no feature.
    - ``.npy``: one array; of one dimension, it is taken as samples of one value.
    - ``.npz``: its only array, or of several the one called ``data``, else ``x``.
    - IDX, the format of MNIST, plain or gzipped: named ``…-ubyte``, ``….idx`` or ``…-idx3-…``.

    Args:
        path: the file.
        columns: the columns of a table to read, in this order, else all; other formats are read whole.

    Raises:
        DataError: the file cannot be read, or does not hold samples that are finite numbers.
    """
    with _told(path):
        _expect_content(path)
        return _read(path, columns)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file into an error of one line that names it."""
    try:
        yield
    except (EdgeaeError, GeneratorExit):
        raise
    except Exception as error:  # on damaged files zipfile, zlib and numpy raise a dozen unrelated types
        reason = textwrap.shorten(f"{type(error).__name__}: {error}".rstrip(": "), 160, placeholder=" …")
        remedy = "save it as UTF-8 text" if isinstance(error, UnicodeError) else "write it again or rename it"
        raise DataError(f"{path}: cannot be read ({reason}); {remedy}") from error


def read_pieces(path: Path, *, columns: Sequence[str] | None = None, times: bool = False) -> Iterator[Piece]:
    """Read a file a piece at a time; of a table or a large ``.npy`` no more than a piece is in memory.

    Args:
        path: as for `read`.
        columns: the columns of a table to read, in this order, else all; other formats are read whole.
        times: whether the samples are readings of a series: a column of times is then no feature, and
            comes with each piece.

    Raises:
        DataError: as for `read`.
    """
    with _told(path):
        _expect_content(path)
        name = path.name.lower()
        if name.endswith(".csv"):
            yield from Csv(path, columns, times=times, series=times).pieces()
        elif name.endswith(".npy") and path.stat().st_size > MOST_AT_ONCE:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            array = array[:, np.newaxis] if array.ndim == 1 else array
            rows = max(1, PIECE_VALUES // max(1, math.prod(array.shape[1:])))
            for start in range(0, len(array), rows):
                part = as_samples(array[start : start + rows], where=str(path), first_row=start + 1)
                yield Piece(part, read=(start + len(part)) / len(array))
        elif name.endswith(".parquet"):
            yield from _open_parquet(path, columns, series=times).pieces()
        else:
            yield Piece(_read(path, columns).values)


def _expect_content(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: is a folder; name a file" if path.is_dir() else f"{path}: no such file")
    if not path.stat().st_size:
        raise DataError(f"{path}: is empty (0 bytes); write it again")


def _read(path: Path, columns: Sequence[str] | None) -> Data:
    name = path.name.lower()
    if name.endswith(".csv"):
        table = Csv(path, columns)
        return Data(np.concatenate([piece.values for piece in table.pieces()]), table.features)
    if name.endswith(".parquet"):
        parquet = _open_parquet(path, columns, series=False)
        return Data(np.concatenate([piece.values for piece in parquet.pieces()]), parquet.features)
    if name.endswith(".npy"):
        with path.open("rb") as file:
            values = _read_array(file, str(path))
    elif name.endswith(".npz"):
        values = _read_npz(path)
    elif _IDX_NAME.search(name):
        values = _read_idx(path)
    else:
        raise DataError(f"{path}: unknown kind of file, expected {_KNOWN}; convert or rename it")
    return Data(as_samples(values, where=str(path)), None)


def _open_parquet(path: Path, columns: Sequence[str] | None, *, series: bool) -> "ArrowTable":
    import_extra("pyarrow")
    from ._arrow import ArrowTable

    return ArrowTable(path, columns, label=None, series=series, where=str(path))


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
    _expect_end(file)
    return array[:, np.newaxis] if array.ndim == 1 else array


def _read_idx(path: Path) -> np.ndarray:
    gzipped = path.name.lower().endswith(".gz")
    with cast(IO[bytes], gzip.open(path)) if gzipped else path.open("rb") as file:
        zeros, kind, dimensions = struct.unpack(">HBB", file.read(4))
        if zeros or kind not in _IDX_TYPES:
            raise ValueError("its first bytes are not those of an IDX file")
        if dimensions == 1:
            raise DataError(f"{path}: holds labels (one dimension), not samples; name the file of the images")
        array = np.empty(struct.unpack(f">{dimensions}I", file.read(4 * dimensions)), _IDX_TYPES[kind])
        rest = array.reshape(-1).view(np.uint8).data
        while piece := file.read(min(len(rest), 1 << 20)):  # gzip holds a copy of all that is asked for
            rest[: len(piece)] = piece
            rest = rest[len(piece) :]
        if rest:
            raise EOFError(f"{len(rest)} of {array.nbytes} bytes are missing")
        _expect_end(file)
    return array


def _expect_end(file: IO[bytes]) -> None:
    # Reading on to the end also makes gzip and zipfile compare their checksums.
    if file.read(1):
        raise ValueError("more bytes follow the array")
