"""Reading samples: CSV, Parquet, .npy, .npz and IDX files become checked arrays in raw units.

What is wrong with a file is reported with its place: rows are counted from 1, lines as in an editor.
"""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..arrays import as_samples
from ..errors import DataError, EdgeaeError
from ..extras import import_extra
from .csv import Csv
from .idx import IDX_NAME, read_idx
from .npy import MOST_AT_ONCE, mapped, read_array, read_npz
from .table import Piece, Table

_KNOWN = ".csv, .parquet, .npy, .npz or IDX (named …-ubyte, ….idx or …-idx3-…, plain or .gz)"


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
        from .arrow import ArrowTable

        parquet = ArrowTable(path, columns, label=None, series=times, where=str(path))
        return parquet.features, parquet.pieces()
    if name.endswith(".npy") and path.stat().st_size > MOST_AT_ONCE:
        return None, mapped(path)
    if name.endswith(".npy"):
        with path.open("rb") as file:
            values = read_array(file, str(path))
    elif name.endswith(".npz"):
        values = read_npz(path)
    elif IDX_NAME.search(name):
        values = read_idx(path)
    else:
        raise DataError(f"{path}: unknown kind of file, expected {_KNOWN}; convert or rename it")
    return None, iter([Piece(as_samples(values, where=str(path)))])
