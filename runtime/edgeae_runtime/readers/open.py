"""One door for files of samples: every format is a row of `READERS`, and a module beside this one.

What is wrong with a file is reported with its place: rows are counted from 1, lines as in an editor.
"""

import textwrap
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, EdgeaeError
from ..extras import import_extra
from .source import Source, compression_of, is_standard_input, source_name
from .table import OpenTable, Piece, Table, Wanted


class Reader(NamedTuple):
    """A format."""

    names: tuple[str, ...]
    """Patterns of its files' names, in lower case, as of `fnmatch`."""
    module: str
    """Beside this one, imported when needed: its ``read(source, wanted)`` returns an `OpenTable`."""
    extra: str | None = None
    """An optional package that it needs; see `extras`."""
    is_table: bool = False
    """Whether its columns have names."""
    in_order: bool = False
    """Whether it is read from front to back, so that it may be compressed, or come from standard input."""
    starts: tuple[bytes, ...] = ()
    """What it starts with, by which it is known on standard input."""


READERS = (  # the first that a name fits; CSV is what nothing else is known by
    Reader(("*.csv",), "csv", is_table=True, in_order=True),
    Reader(("*.jsonl", "*.ndjson"), "jsonl", is_table=True, in_order=True, starts=(b"{", b"[")),
    Reader(("*.wav",), "wav", is_table=True, in_order=True, starts=(b"RIFF", b"RF64")),
    Reader(("*.parquet",), "arrow", extra="pyarrow", is_table=True, starts=(b"PAR1",)),
    Reader(("*.npy",), "npy", starts=(b"\x93NUMPY",)),
    Reader(("*.npz",), "npz", starts=(b"PK",)),
    Reader(("*-ubyte", "*.idx", "*-idx[0-9]-*"), "idx", in_order=True),
)


def open_table(
    source: Any,
    *,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    times: bool = False,
    series: bool = False,
) -> OpenTable:
    """Open samples, of which no more than a piece is in memory at a time, if the format allows it.

    Args:
        source: a file, whose name determines its format, or ``-`` for standard input: JSON lines where it
            starts with ``[`` or ``{``, WAV, or else CSV; or an Arrow table, or what exports one.
        columns: the features of a table, in this order, and the time where several columns may be it; None
            for all. Of no consequence where columns have no names.
        label: the column of the labels.
        times: whether to look for a column of times, which is then no feature.
        series: whether the times matter: two candidates are then an error, also where none was chosen.

    Raises:
        DataError: the source cannot be read, or does not have these columns; or when its pieces are read,
            does not hold samples that are finite numbers.
    """
    return _open(source, Wanted(columns, label, times, series))


def read(path: Path, *, columns: Sequence[str] | None = None) -> Table:
    """Read the samples of a file at once; see `open_table`."""
    found = open_table(path, columns=columns)
    values = [piece.values for piece in found.pieces]
    return Table(values[0] if len(values) == 1 else np.concatenate(values), found.features)


def read_pieces(path: Path, *, columns: Sequence[str] | None = None, times: bool = False) -> Iterator[Piece]:
    """Yield the samples of a file in pieces; with ``times`` as readings of a series. See `open_table`."""
    yield from open_table(path, columns=columns, times=times, series=times).pieces


def read_labels(path: Path) -> NDArray[Any]:
    """Read the only column of a table, (n,), as text; or an array of one dimension, (n,) or (n, 1), as it is.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    found = [piece.labels for piece in _open(path, Wanted(only_label=True)).pieces]
    return np.concatenate([labels for labels in found if labels is not None])


def is_table(path: Path) -> bool:
    """Return whether the columns of a file of this name have names, as those of standard input do."""
    reader = _reader_by_name(path)
    return is_standard_input(path) or (reader is not None and reader.is_table)


def stem(path: Path) -> str:
    """Return a file's name without its suffix, and that of a table without that of its compression too."""
    return Path(path.stem).stem if compression_of(path.name) and is_table(path) else path.stem


def known_names(*, tables: bool = False) -> str:
    """Return what names of files are known, or those of ``tables`` alone, for a message."""
    names = [name for reader in READERS if reader.is_table or not tables for name in reader.names]
    shown = [name[1:] if name.startswith("*.") else name.replace("*", "…") for name in names]
    return f"{', '.join(shown[:-1])} or {shown[-1]}"


def _open(source: Any, wanted: Wanted) -> OpenTable:
    if hasattr(source, "__arrow_c_stream__"):
        import_extra("pyarrow")
        from .arrow import read_memory

        return read_memory(source, wanted, "the table")
    path = Path(source)
    with _named_errors(source_name(path)):
        given = Source(path)
        reader = _reader_of(given)
        if reader.extra is not None:
            import_extra(reader.extra)
        try:
            found: OpenTable = import_module(f".{reader.module}", __package__).read(given, wanted)
        except BaseException:
            given.close()
            raise
    return replace(found, pieces=_closing(found, given))


def _closing(table: OpenTable, source: Source) -> Iterator[Piece]:
    try:
        with _named_errors(table.where):
            yield from table.pieces
    finally:
        source.close()


@contextmanager
def _named_errors(where: str) -> Iterator[None]:
    try:
        yield
    except (EdgeaeError, GeneratorExit):
        raise
    except Exception as error:  # on damaged files zipfile, zlib and numpy raise a dozen unrelated types
        reason = textwrap.shorten(f"{type(error).__name__}: {error}".rstrip(": "), 160, placeholder=" …")
        remedy = "save it as UTF-8 text" if isinstance(error, UnicodeError) else "write it again or rename it"
        raise DataError(f"{where}: cannot be read ({reason}); {remedy}") from error


def _reader_of(source: Source) -> Reader:
    """Return what reads a source.

    Raises:
        DataError: nothing does.
    """
    if source.once:
        start = source.head().removeprefix(BOM_UTF8).lstrip()
        reader = next((reader for reader in READERS if start.startswith(reader.starts)), READERS[0])
        if not reader.in_order:
            raise DataError(
                f"{source.where}: holds a {reader.names[0][1:]} file, which cannot be piped; name the file"
            )
        return reader
    found = _reader_by_name(source.path)
    if found is None:
        raise DataError(
            f"{source.where}: unknown kind of file, expected {known_names()}; convert or rename it"
        )
    if not found.in_order and compression_of(source.path.name):
        raise DataError(f"{source.where}: a {found.names[0][1:]} file is not read compressed; decompress it")
    return found


def _reader_by_name(path: Path) -> Reader | None:
    compression = compression_of(path.name)
    name = path.name.lower().removesuffix(compression.suffix if compression else "")
    return next((r for r in READERS if any(fnmatchcase(name, known) for known in r.names)), None)
