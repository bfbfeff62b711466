"""Sliding windows over a series of readings, alike in training and on the device.

A window lies within one uninterrupted stretch of one file. Where the readings have times, a step longer
than `GAP` times the usual one interrupts the series.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._csv import Piece
from ._errors import DataError, EdgeaeWarning

GAP = 1.5
"""Times the usual step: a longer one is a gap."""
USUAL_STEPS = 10_000
"""The usual step is the median of that many first steps of a file: a stream is not read twice."""
STEPS_PER_ODD = 1000
"""Steps among which one may be a clock that was set back."""


def windows(rows: NDArray[Any], window: int, stride: int = 1) -> NDArray[Any]:
    """Return the windows over uninterrupted readings, as a read-only view: nothing is copied.

    Args:
        rows: readings in order of time, (n, channels), or (n,) for one channel.
        window: readings in a window.
        stride: readings from the start of one window to the start of the next.

    Returns:
        (count, window, channels), where ``count = (n - window) // stride + 1``.

    Raises:
        DataError: fewer readings than a window, or a window or stride below 1.
    """
    rows = np.asarray(rows)
    rows = rows[:, np.newaxis] if rows.ndim == 1 else rows
    if window < 1 or stride < 1:
        raise DataError(f"window {window} and stride {stride}: both must be at least 1")
    if rows.ndim != 2:
        raise DataError(f"windows are made of readings (n, channels), found an array of shape {rows.shape}")
    if len(rows) < window:
        raise too_short("input", len(rows), window)
    view = np.lib.stride_tricks.sliding_window_view(rows, window, axis=0)
    strided: NDArray[Any] = np.moveaxis(view, -1, 1)[::stride]
    return strided


def too_short(where: object, longest: int, window: int) -> DataError:
    """Return the error for a series without a single window."""
    return DataError(
        f"{where}: its longest uninterrupted stretch has {longest:,} readings, fewer than a window of "
        f"{window:,}; give a longer series or a smaller window"
    )


class Clock:
    """Finds where the times of a file, which may come in pieces, interrupt its series.

    A gap does, and so does a clock that was set back or stood still, as long as that is rare: then the
    file is rather not in order.
    """

    def __init__(self, where: object) -> None:
        """Start a file, which errors call ``where``."""
        self._where = where
        self._limit = np.inf
        self._last: NDArray[np.datetime64] | None = None
        self._rows = self._odd = 0

    def interruptions(self, times: NDArray[np.datetime64]) -> list[int]:
        """Return the positions, in order, of the readings before which the series is interrupted.

        Args:
            times: (n,), ``datetime64[us]``, of the next readings; of the first `USUAL_STEPS` steps of the
                first call the usual step is taken.

        Raises:
            DataError: more than one in `STEPS_PER_ODD` of the times so far is not after the one before it.
            (warning) EdgeaeWarning: one is not.
        """
        if self._last is None:
            first = np.diff(times[: USUAL_STEPS + 1]).astype(np.int64)
            ahead = first[first > 0]
            self._limit = GAP * float(np.median(ahead)) if len(ahead) else np.inf
        known = times if self._last is None else np.concatenate([self._last, times])
        before = len(known) - len(times)
        steps = np.diff(known).astype(np.int64)
        odd = np.flatnonzero(steps <= 0)
        row = self._rows - before + 2
        self._last = known[-1:]
        self._rows += len(times)
        if len(odd):
            told = self._tell(known, int(odd[0]), row)
            if self._odd + len(odd) > self._rows // STEPS_PER_ODD:
                raise DataError(f"{told}; sort the file by time, and keep one row of a time")
            if not self._odd:
                warnings.warn(f"{told}: taken as an interruption", EdgeaeWarning, stacklevel=2)
            self._odd += len(odd)
        cuts: list[int] = (np.flatnonzero((steps > self._limit) | (steps <= 0)) + 1 - before).tolist()
        return cuts

    def _tell(self, times: NDArray[np.datetime64], place: int, row: int) -> str:
        earlier, later = times[place].item(), times[place + 1].item()
        here = row + place
        if earlier == later:
            return f"{self._where}: rows {here - 1} and {here} have the same time, {later}"
        return f"{self._where}: row {here} is of {later}, before row {here - 1} of {earlier}"


class Slider:
    """Makes the windows of a series that comes in pieces; keeps less than a window between two."""

    def __init__(self, window: int, stride: int) -> None:
        """See `windows`."""
        self.window, self.stride = window, stride
        self.stretches = 1
        """Uninterrupted ones so far."""
        self.count = 0
        """Windows so far."""
        self.longest = 0
        """Readings in the longest stretch so far."""
        self._kept: NDArray[Any] | None = None
        self._skip = 0
        self._row = 0
        self._length = 0

    def interrupt(self) -> None:
        """Let no later window reach back beyond here."""
        self._kept, self._skip, self._length = None, 0, 0
        self.stretches += 1

    def push(self, rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Take the next readings, (n, channels).

        Returns:
            For each window that they complete the row of its last reading, counted from 1, (count,); and
            the windows, (count, window, channels).
        """
        self._row += len(rows)
        self._length += len(rows)
        self.longest = max(self.longest, self._length)
        skipped = min(self._skip, len(rows))
        self._skip -= skipped
        series = rows[skipped:] if self._kept is None else np.concatenate([self._kept, rows[skipped:]])
        if len(series) < self.window:
            self._kept = series.copy()
            return np.empty(0, np.int64), np.empty((0, self.window, rows.shape[1]), rows.dtype)
        view = windows(series, self.window, self.stride)
        start = len(view) * self.stride
        self._kept = series[start:].copy()
        self._skip = max(0, start - len(series))
        self.count += len(view)
        first = self._row - len(series) + self.window
        return first + self.stride * np.arange(len(view)), view


def slide(pieces: Iterable[Piece], slider: Slider, where: object) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Yield what `Slider.push` gives for the pieces of one file, interrupted at the gaps between them.

    Raises:
        DataError: times that do not increase; readings that are no table; or not one window in the file.
    """
    clock = Clock(where)
    for piece in _with_enough_times(pieces):
        if piece.values.ndim != 2:
            raise DataError(
                f"{where}: windows are made of readings (n, channels), found {piece.values.shape}"
            )
        cuts = [] if piece.times is None else clock.interruptions(piece.times)
        for index, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(piece.values)], strict=True)):
            if index:
                slider.interrupt()
            if stop > start:
                yield slider.push(piece.values[start:stop])
    if not slider.count:
        raise too_short(where, slider.longest, slider.window)


def _with_enough_times(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Join the first pieces until they have the steps of which the median is taken."""
    first: list[Piece] = []
    rest = iter(pieces)
    for piece in rest:
        first.append(piece)
        if piece.times is None or sum(len(p.values) for p in first) > USUAL_STEPS:
            break
    if first:
        times = [p.times for p in first if p.times is not None]
        yield Piece(np.concatenate([p.values for p in first]), np.concatenate(times) if times else None)
    yield from rest
