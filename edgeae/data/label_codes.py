"""Labels of rows, encoded as integers while they are read."""

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError
from edgeae_runtime.errors import EdgeaeWarning


class LabelEncoder:
    """Encodes labels as integers, in the order in which they are met."""

    def __init__(self) -> None:
        """Start without any."""
        self.names: dict[str, int] = {}

    def encode(self, labels: NDArray[np.object_]) -> NDArray[np.int32]:
        """Return the number of each label, (n,)."""
        names = self.names
        return np.array([names.setdefault(label, len(names)) for label in labels.tolist()], np.int32)

    def decode(self, codes: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Return labels (n,): int64 where all are whole numbers, else text."""
        names: NDArray[Any] = np.array(list(self.names), str)
        try:
            numbers = names.astype(np.float64)
            if np.array_equal(numbers, np.round(numbers)):
                names = numbers.astype(np.int64)
        except ValueError:
            pass
        labels: NDArray[Any] = names[codes]
        return labels

    def matching(self, label: str) -> set[int]:
        """Return the numbers of the names that are this label; 1, 1.0 and True, as text, are the same."""
        return {code for name, code in self.names.items() if _same(name, label)}

    def normal_of(self, codes: Iterable[int], normal: str | None) -> int:
        """Return the number of the label that stands for normal.

        Args:
            codes: of all rows.
            normal: the label, if it is known; else 0 where that is a label, else the most frequent.

        Raises:
            (warning) EdgeaeWarning: it was taken for the most frequent.
        """
        known = sorted(self.matching("0" if normal is None else normal))
        if known:
            return known[0]
        most = int(np.argmax(np.bincount(np.fromiter(codes, np.int64))))
        warnings.warn(
            f"taken as the normal label, since it is the most frequent: {list(self.names)[most]!r}",
            EdgeaeWarning,
            stacklevel=2,
        )
        return most

    def unknown(self, where: str, normal: str) -> DataError:
        """Return the error for a normal label that no row has."""
        found = ", ".join(map(repr, sorted(self.names)[:10])) + (" …" if len(self.names) > 10 else "")
        return DataError(f"{where}: no row has the label {normal!r}, found {found}; choose of these")


def of_windows(
    codes: NDArray[np.int32], starts: NDArray[np.int64], window: int, normal: int
) -> NDArray[np.int32]:
    """Return the label of each window: normal where all its readings are, else its last one that is not.

    Args:
        codes: of the readings, (n,).
        starts: of the windows, (count,).
        window: readings in one.
        normal: the number of the label that stands for normal.
    """
    places = np.where(codes == normal, -1, np.arange(len(codes)))
    last = np.maximum.accumulate(places)[starts + window - 1]
    return np.where(last >= starts, codes[np.maximum(last, 0)], np.int32(normal))


def _same(name: str, label: str) -> bool:
    if name == label:
        return True
    words = {"true": 1.0, "false": 0.0}
    try:
        a, b = (words[t.lower()] if t.lower() in words else float(t) for t in (name, label))
    except ValueError:
        return False
    return a == b
