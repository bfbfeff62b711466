"""Sources of training data: files, folders, and tables or arrays in memory, all in pieces."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edgeae_runtime import DataError
from edgeae_runtime.arrays import as_samples
from edgeae_runtime.readers import OpenTable, Piece, is_table, known_names, open_table

from .images import IMAGE_SUFFIXES, read_images

DataSource: TypeAlias = Any
"""A path or a name; several paths; an array (n, …); an Arrow table, a DataFrame, or what exports either."""


def open_tables(
    source: DataSource, columns: Sequence[str] | None, label: str | None, *, series: bool
) -> Iterator[OpenTable]:
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
        table = _open(one, columns, label, series=series)
        columns = columns if table.features is None or columns else table.features
        yield table


def _expand(source: str | os.PathLike[str]) -> list[Any]:
    """Return a file as it is, and what is to be read of a folder: tables one by one, pictures as one list."""
    path = Path(source)
    if source == "digits" or not path.is_dir():
        return [source if source == "digits" else path]
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    tables = [file for file in files if is_table(file)]
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if bool(tables) == bool(images):
        found = "both tables and pictures" if tables else "neither tables nor pictures"
        raise DataError(
            f"{path}: a folder with {found}, expected {known_names(tables=True)} files, or .png or .jpg "
            "files; folders in it are not looked into"
        )
    return list(tables) or [images]


def _open(source: Any, columns: Sequence[str] | None, label: str | None, *, series: bool) -> OpenTable:
    if isinstance(source, str):
        return _digits(label)
    if isinstance(source, Path) or hasattr(source, "__arrow_c_stream__"):
        return open_table(source, columns=columns, label=label, times=True, series=series)
    pieces: Iterator[Piece]
    if isinstance(source, list) and source and isinstance(source[0], Path):
        where = str(source[0].parent)
        pieces = (Piece(images) for images in read_images(source))
    else:
        where = "the data"
        pieces = iter([Piece(as_samples(np.asarray(source), where=where))])
    if label is not None:
        raise DataError(f"{where}: has no column {label!r}; labels are a column of a table")
    return OpenTable(where, None, pieces)


def _digits(label: str | None) -> OpenTable:
    if label is not None:
        raise DataError("digits: has no columns; its labels are always there")
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = np.array([str(target) for target in digits.target], object)
    return OpenTable("digits", None, iter([Piece(as_samples(digits.images), None, labels)]))
