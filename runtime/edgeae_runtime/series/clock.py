"""The usual step of a series in a file, and where it is interrupted."""

import warnings

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, EdgeaeWarning

GAP = 1.5
"""Multiple of the usual step beyond which a step is a gap, which interrupts the series."""
FILE_MEDIAN_STEPS = 10_000
"""Number of first steps of a file whose median is its usual step; a file is not read twice."""
STEPS_PER_ODD = 1000
"""Number of steps among which one may be that of a clock that was set back."""


class Clock:
    """Finds where the times of a file, which may come in pieces, interrupt its series.

    A gap does, and so does a clock that was set back or stood still. Where that is not rare, the file is
    rather not in order.
    """

    def __init__(self, where: object) -> None:
        """Begin a file, which warnings call ``where``."""
        self._where = where
        self._limit = np.inf
        self._last: NDArray[np.datetime64] | None = None
        self._rows = self._odd = 0

    def interruptions(self, times: NDArray[np.datetime64]) -> list[int]:
        """Return the positions, in order, of the readings before which the series is interrupted.

        Args:
            times: (n,), ``datetime64[us]``, of the next readings; the first call determines the usual step.

        Raises:
            DataError: more than one in `STEPS_PER_ODD` of the times so far is not after the one before it.
            (warning) EdgeaeWarning: one is not.
        """
        if self._last is None:
            first = np.diff(times[: FILE_MEDIAN_STEPS + 1]).astype(np.int64)
            ahead = first[first > 0]
            self._limit = GAP * float(np.median(ahead)) if len(ahead) else np.inf
        known = times if self._last is None else np.concatenate([self._last, times])
        before = len(known) - len(times)
        steps = np.diff(known).astype(np.int64)
        odd = np.flatnonzero(steps <= 0)
        row = self._rows - before + 2  # of the file, where the first step ends
        self._last = known[-1:]
        self._rows += len(times)
        if len(odd):
            (earlier, later), here = known[odd[0] :][:2].tolist(), row + int(odd[0])
            message = f"{self._where}: row {here} is of {later}, before row {here - 1} of {earlier}"
            if earlier == later:
                message = f"{self._where}: rows {here - 1} and {here} have the same time, {later}"
            if self._odd + len(odd) > self._rows // STEPS_PER_ODD:
                raise DataError(f"{message}; sort the file by time, and keep one row of a time")
            if not self._odd:
                warnings.warn(f"{message}: taken as an interruption", EdgeaeWarning, stacklevel=2)
            self._odd += len(odd)
        cuts: list[int] = (np.flatnonzero((steps > self._limit) | (steps <= 0)) + 1 - before).tolist()
        return cuts
