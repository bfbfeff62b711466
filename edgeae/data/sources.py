"""Sources of training data: files, folders, and tables or arrays in memory, all in pieces."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edgeae_runtime import DataError
from edgeae_runtime.arrays import as_samples
from edgeae_runtime.readers import Csv, Piece, read_pieces

from .images import IMAGE_SUFFIXES, read_images

DataSource: TypeAlias = Any
"""A path or a name; several paths; an array (n, …); an Arrow table, a DataFrame, or what exports either."""

_TABLES = (".csv", ".parquet")


@dataclass(frozen=True)
class Part:
    """One file, or what is like one: its rows are one series."""

    where: str
    """Name of the part in error messages."""
    features: tuple[str, ...] | None
    pieces: Iterator[Piece]


def open_parts(
    source: DataSource, columns: Sequence[str] | None, label: str | None, *, series: bool
) -> Iterator[Part]:
    """Yield the files of a source, in order; of several tables each has the features of the first.

    Args:
        source: see `edgeae.load_data`.
        columns: features by name.
        label: the column of labels.
        series: whether the times of the rows matter.

    Raises:
        DataError: a file is missing, of an unknown kind, or does not have the columns.
    """
    if isinstance(source, str | os.PathLike):
        sources: list[Any] = _expand(source)
    elif (
        isinstance(source, list | tuple) and source and all(isinstance(s, str | os.PathLike) for s in source)
    ):
        sources = [path for one in source for path in _expand(one)]
    else:
        sources = [source]
    for one in sources:
        part = _open(one, columns, label, series=series)
        columns = columns if part.features is None or columns else part.features
        yield part


def _expand(source: str | os.PathLike[str]) -> list[Any]:
    """Return a file as it is, and what is to be read of a folder: tables one by one, pictures as one list."""
    path = Path(source)
    if source == "digits" or not path.is_dir():
        return [source if source == "digits" else path]
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    tables = [file for file in files if file.suffix.lower() in _TABLES]
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if bool(tables) == bool(images):
        found = "both tables and pictures" if tables else "neither tables nor pictures"
        raise DataError(
            f"{path}: a folder with {found}, expected .csv or .parquet files, or .png or .jpg files; "
            "folders in it are not looked into"
        )
    return list(tables) or [images]


def _open(source: Any, columns: Sequence[str] | None, label: str | None, *, series: bool) -> Part:
    if isinstance(source, Path) and source.suffix.lower() == ".parquet":
        if not source.is_file():
            raise DataError(f"{source}: no such file")
        return _arrow(source, columns, label, series, str(source))
    if isinstance(source, Path) and source.suffix.lower() == ".csv" and source.is_file():
        return _csv(source, columns, label, series)
    if hasattr(source, "__arrow_c_stream__"):
        return _arrow(source, columns, label, series, "the table")
    if isinstance(source, str):
        return _digits(label)
    where = str(source) if isinstance(source, Path) else "the data"
    pieces: Iterator[Piece]
    if isinstance(source, list) and source and isinstance(source[0], Path):
        where = str(source[0].parent)
        pieces = (Piece(images) for images in read_images(source))
    elif isinstance(source, Path):
        pieces = read_pieces(source)
    else:
        pieces = iter([Piece(as_samples(np.asarray(source), where=where))])
    if label is not None:
        raise DataError(f"{where}: has no column {label!r}; labels are a column of a .csv, .parquet or table")
    return Part(where, None, pieces)


def _csv(path: Path, columns: Sequence[str] | None, label: str | None, series: bool) -> Part:
    if not path.stat().st_size:
        raise DataError(f"{path}: is empty (0 bytes); write it again")
    try:
        table = Csv(path, columns, label=label, times=True, series=series)
    except UnicodeError as error:
        raise DataError(f"{path}: cannot be read ({error}); save it as UTF-8 text") from error
    return Part(str(path), table.features, table.pieces())


def _arrow(source: Any, columns: Sequence[str] | None, label: str | None, series: bool, where: str) -> Part:
    from edgeae_runtime.readers import ArrowTable  # pyarrow takes a while to import

    table = ArrowTable(source, columns, label=label, series=series, where=where)
    return Part(where, table.features, table.pieces())


def _digits(label: str | None) -> Part:
    if label is not None:
        raise DataError("digits: has no columns; its labels are always there")
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = np.array([str(target) for target in digits.target], object)
    return Part("digits", None, iter([Piece(as_samples(digits.images), None, labels)]))
