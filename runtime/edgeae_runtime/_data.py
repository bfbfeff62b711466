"""Reading samples: CSV, .npy, .npz and IDX files become one checked array in raw units.

Whatever is wrong with a file is told as a `DataError` of one line that names the place. Rows are
counted from 1 everywhere, for arrays too; lines are those that an editor shows.
"""

import csv
import gzip
import re
import struct
import textwrap
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from ._errors import DataError

_KNOWN = ".csv, .npy, .npz or IDX (named …-ubyte, ….idx or …-idx3-…, plain or .gz)"
_IDX_NAME = re.compile(r"(-ubyte|\.idx|-idx\d-.*)(\.gz)?$")
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_TOO_LARGE = 2.0**128 - 2.0**103  # the least number that float32 rounds to infinity


@dataclass(frozen=True)
class Data:
    """Samples in raw units."""

    values: np.ndarray
    """(samples, ...): finite float32, or integers of the type that the file holds; never empty."""

    features: tuple[str, ...] | None
    """The names of the columns of a CSV, in the order of ``values``; None for other files."""


def read(path: Path, *, columns: Sequence[str] | None = None) -> Data:
    """Read the samples of a file, whose name tells its format.

    - ``.csv``: comma-separated UTF-8 text with a header line; blank lines are skipped.
    - ``.npy``: one array; of one dimension, it is taken as samples of one value.
    - ``.npz``: its only array, or of several the one called ``data``, else ``x``.
    - IDX, the format of MNIST, plain or gzipped: named ``…-ubyte``, ``….idx`` or ``…-idx3-…``.

    Args:
        path: the file.
        columns: the columns of a CSV to read, in this order, else all; other formats are read whole.

    Raises:
        DataError: the file cannot be read, or does not hold samples that are finite numbers.
    """
    try:
        return _read(path, columns)
    except DataError:
        raise
    except Exception as error:  # on damaged files zipfile, zlib and numpy raise a dozen unrelated types
        reason = textwrap.shorten(f"{type(error).__name__}: {error}".rstrip(": "), 160, placeholder=" …")
        remedy = "save it as UTF-8 text" if isinstance(error, UnicodeError) else "write it again or rename it"
        raise DataError(f"{path}: cannot be read ({reason}); {remedy}") from error


def as_samples(values: object, *, where: str = "input") -> np.ndarray:
    """Check an array of samples; convert floats to float32 and booleans to uint8, keep integers.

    Nothing is copied unless the type changes, so the result may share memory with ``values``.

    Args:
        values: anything that numpy takes as an array, one sample along the first axis.
        where: what errors call the array.

    Raises:
        DataError: not numeric, fewer than two dimensions, empty, or not finite as float32.
    """
    array = as_array(values, where=where)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: holds {array.dtype}, expected real numbers; convert it to a numeric type")
    if array.ndim < 2 or not array.size:
        raise DataError(f"{where}: has shape {array.shape}, expected (samples, values), none 0; reshape it")
    if array.dtype.kind == "f":
        return _as_float32(array, where)
    if array.dtype.kind == "b":
        return array.view(np.uint8)
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # IDX is big-endian


def as_array(values: object, *, where: str = "input") -> np.ndarray:
    """Return ``values`` as an array of whatever type and shape.

    Raises:
        DataError: they are of different shapes.
    """
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: does not make an array; give numbers, in samples of one shape") from error


def _as_float32(array: np.ndarray, where: str) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found as an infinity below
        samples = array.astype(np.float32, copy=False)
        # NaN and infinity show in the extremes, which unlike isfinite() need no memory of their own.
        if np.isfinite(samples.min()) and np.isfinite(samples.max()):
            return samples
    place = np.unravel_index(np.argmin(np.isfinite(samples)), samples.shape)
    raise DataError(f"{where}: row {place[0] + 1} holds {_not_finite(array[place])}")


def _not_finite(value: float) -> str:
    if np.isfinite(value):
        return f"{value}, which does not fit float32; rescale it or remove the row"
    return f"{value}; every value must be finite"


def _read(path: Path, columns: Sequence[str] | None) -> Data:
    if not path.is_file():
        raise DataError(f"{path}: is a folder; name a file" if path.is_dir() else f"{path}: no such file")
    if not path.stat().st_size:
        raise DataError(f"{path}: is empty (0 bytes); write it again")
    name = path.name.lower()
    if name.endswith(".csv"):
        return _read_csv(path, columns)
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


def _read_npz(path: Path) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        chosen = names if len(names) == 1 else [name for name in ("data", "x") if name in names]
        if not chosen:
            raise DataError(f"{path}: expected one array, 'data' or 'x', found {_listed(names)}; rename one")
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


def _read_csv(path: Path, columns: Sequence[str] | None) -> Data:
    records = _records(path)
    _, cells = next(records, (0, []))
    header = [cell.strip() for cell in cells]
    chosen = _choose(path, header, columns)
    first_line, _ = next(records, (0, []))
    if not first_line:
        raise DataError(f"{path}: has no rows; give at least one sample")
    try:
        values = as_samples(_parse(path, header, chosen, skip=first_line - 1), where=str(path))
    except (ValueError, DataError):
        _raise_first_fault(path, header, chosen)
        raise
    return Data(values, chosen)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each record starts, and its cells; blank lines are left out."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        line = 1
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1  # not one more than before: a quoted cell may span lines


def _choose(path: Path, header: list[str], columns: Sequence[str] | None) -> tuple[str, ...]:
    if all(_number(name) is not None for name in header):
        raise DataError(f"{path}: the first line must name the columns, found {_listed(header)}; add them")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise DataError(f"{path}: the header names column {twice[0]!r} twice; rename one")
    chosen = tuple(header if columns is None else columns)
    missing = [name for name in chosen if name not in header]
    if missing:
        raise DataError(f"{path}: has no column {_listed(missing)}, found {_listed(header)}; choose of these")
    if not chosen or len(set(chosen)) < len(chosen):
        raise DataError(f"{path}: chosen columns are {_listed(chosen)}; name at least one, and none twice")
    if "" in chosen:
        raise DataError(f"{path}: column {header.index('') + 1} has no name; name it or choose the others")
    return chosen


def _parse(path: Path, header: list[str], chosen: tuple[str, ...], skip: int) -> np.ndarray:
    # One field a column, so that numpy checks the length of each row against the header, which it
    # does not with `usecols`; of a column that is not wanted, one character is kept.
    fields = [("", np.float32 if name in chosen else "U1") for name in header]
    table = np.loadtxt(path, fields, None, ",", skiprows=skip, ndmin=1, encoding="utf-8", quotechar='"')
    if chosen == tuple(header):
        return table.view(np.float32).reshape(len(table), -1)
    return np.column_stack([table[f"f{header.index(name)}"] for name in chosen])


def _raise_first_fault(path: Path, header: list[str], chosen: tuple[str, ...]) -> None:
    records = _records(path)
    next(records)
    wanted = [(name, header.index(name)) for name in chosen]
    for row, (line, cells) in enumerate(records, 1):
        where = f"{path}: row {row} (line {line})"
        if len(cells) != len(header):
            found = f"{len(cells)} column{'s' * (len(cells) > 1)}"
            raise DataError(f"{where} has {found}, the header names {len(header)}; repair the row")
        for name, index in wanted:
            if fault := _fault(cells[index]):
                raise DataError(f"{where}, column {name!r}{fault}")


def _fault(cell: str) -> str | None:
    value = _number(cell)
    if value is None:
        found = f": {cell[:80]!r} is not a number" if cell.strip() else " is empty"
        return f"{found}; remove or repair the row"
    return None if abs(value) < _TOO_LARGE else f" is {_not_finite(value)}"


def _number(cell: str) -> float | None:
    # float() also takes 1_000 and digits of other scripts, which numpy and other readers do not.
    try:
        return float(cell) if cell.strip().isascii() and "_" not in cell else None
    except ValueError:
        return None


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(map(repr, names)) or "none"
    return text if len(text) <= 300 else f"{text[:300]} …"
