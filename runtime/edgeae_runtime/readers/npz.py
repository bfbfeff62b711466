"""NumPy's ``.npz``: arrays with names in a zip file."""

import zipfile

from ..arrays import listed
from ..errors import DataError
from .npy import read_array
from .source import Source
from .table import OpenTable, Wanted, of_array


def read(source: Source, wanted: Wanted) -> OpenTable:
    """Open the only array of a file, or that called ``data`` or ``x``.

    Raises:
        DataError: there is none, or it holds objects.
    """
    with zipfile.ZipFile(source.path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        chosen = names if len(names) == 1 else [name for name in ("data", "x") if name in names]
        if not chosen:
            raise DataError(
                f"{source.where}: expected one array, 'data' or 'x', found {listed(names)}; rename one"
            )
        with archive.open(f"{chosen[0]}.npy") as file:
            return of_array(read_array(file, source.where), source.where, wanted)
