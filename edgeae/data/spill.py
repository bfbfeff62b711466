"""Arrays that may be larger than memory: collected in an unnamed temporary file, which is then mapped."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError

MOST_IN_MEMORY = 2**27
"""Bytes of an array beyond which it is kept in a file: scaling and Keras each copy what is in memory."""
STEP_BYTES = 2**24
"""Bytes that are worked on at once."""


def is_large(array: NDArray[Any]) -> bool:
    """Return whether copies of an array should not be made in memory; of a view, all windows count."""
    return array.nbytes > MOST_IN_MEMORY


def steps(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield an array (n, …) in views of a bounded size, one below the other."""
    rows = max(1, STEP_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


class SpillBuffer:
    """Collects arrays of the same row shape and type below each other."""

    def __init__(self) -> None:
        """Start empty."""
        self.rows = 0
        self.like: tuple[np.dtype[Any], tuple[int, ...]] | None = None
        """Type and row shape of what was added."""
        self._pieces: list[NDArray[Any]] = []
        self._bytes = 0
        self._file: Any = None

    def append(self, piece: NDArray[Any]) -> None:
        """Add rows (n, …).

        Raises:
            DataError: the temporary folder is full.
        """
        self.like = self.like or (piece.dtype, piece.shape[1:])
        self.rows += len(piece)
        self._bytes += piece.nbytes
        self._pieces.append(piece)
        if self._bytes > MOST_IN_MEMORY:
            self._spill()

    def extend(self, pieces: Iterable[NDArray[Any]]) -> "SpillBuffer":
        """Add each of the pieces; return the buffer."""
        for piece in pieces:
            self.append(piece)
        return self

    def finish(self) -> NDArray[Any]:
        """Return everything as one array; one in a file is read-only, and the file goes when it goes."""
        if self._file is None:
            return self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces)
        # mapped as a plain array: a subclass would live on in everything computed from it
        assert self.like is not None
        kind, shape = self.like
        array = np.asarray(np.memmap(self._file, kind, "r", shape=(self.rows, *shape)))
        self._file.close()  # the mapping stays
        return array

    def __del__(self) -> None:
        """Let go of the file where reading was given up."""
        if self._file is not None:
            with suppress(OSError):  # what a full disk did not take
                self._file.close()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed in finish
        try:
            for piece in self._pieces:
                for step in steps(piece):
                    self._file.write(np.ascontiguousarray(step).data)
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"{tempfile.gettempdir()}: the data do not fit into this folder ({error.strerror}); "
                "set TMPDIR to one with more room"
            ) from error
        self._pieces.clear()
