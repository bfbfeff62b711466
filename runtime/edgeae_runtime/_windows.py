"""Sliding windows over a series of readings, alike in training and on the device.

A window lies within one uninterrupted stretch of one file.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._csv import Piece
from ._errors import DataError, EdgeaeWarning
from ._manifest import as_array
from ._named import by_name, names_of

GAP = 1.5
"""Multiple of the usual step beyond which a step is a gap, which interrupts the series."""
FILE_MEDIAN_STEPS = 10_000
"""Number of first steps of a file whose median is its usual step; a file is not read twice."""
STEPS_PER_ODD = 1000
"""Number of steps among which one may be that of a clock that was set back."""


def windows(
    rows: ArrayLike, window: int, stride: int = 1, *, features: Sequence[str] | None = None
) -> NDArray[Any]:
    """Return the windows over uninterrupted readings, as a read-only view: nothing is copied.

    Args:
        rows: readings in order of time, (n, channels), or (n,) for one channel. A table with names needs
            ``features``, and is then copied.
        window: readings in a window.
        stride: readings from the start of one window to the start of the next.
        features: the columns of a table, in the bundle's order: ``ae.manifest.input.features``.

    Returns:
        (count, window, channels), where ``count = (n - window) // stride + 1``.

    Raises:
        DataError: fewer readings than a window, or a window or stride below 1; a table with names without
            ``features``, or without one of them.
    """
    table: Any = rows
    if getattr(table, "ndim", 0) != 1 or getattr(
        table.dtype, "names", None
    ):  # else a channel, whose labels name no columns
        if features is None and names_of(table):
            raise DataError(
                "windows: the columns have names, of which an array keeps only the order; pass the bundle's, "
                "features=ae.manifest.input.features, or an array in its order"
            )
        table = by_name(table, features)
    readings: NDArray[Any] = as_array(table)
    return _slid(readings[:, np.newaxis] if readings.ndim == 1 else readings, window, stride)


def _slid(rows: NDArray[Any], window: int, stride: int) -> NDArray[Any]:
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
    return DataError(
        f"{where}: its longest uninterrupted stretch has {longest:,} readings, fewer than a window of "
        f"{window:,}; give a longer series or a smaller window"
    )


class Clock:
    """Finds where the times of a file, which may come in pieces, interrupt its series.

    A gap does, and so does a clock that was set back or stood still. Where that is not rare, the file is
    rather not in order.
    """

    def __init__(self, where: object) -> None:
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


def slide(
    pieces: Iterable[Piece], window: int, stride: int, where: object
) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Make the windows of one file that comes in pieces; see `windows`.

    Yields:
        The rows of the windows' last readings, counted from 1, (n,); and windows, (n, window, channels).

    Raises:
        DataError: times that do not increase; readings that are no table; or not one window in the file.
    """
    clock = Clock(where)
    kept: NDArray[Any] | None = None  # less than a window, of which later windows start
    skip = row = length = longest = count = 0
    for piece in _with_enough_times(pieces):
        if piece.values.ndim != 2:
            raise DataError(
                f"{where}: windows are made of readings (n, channels), found {piece.values.shape}"
            )
        cuts = [] if piece.times is None else clock.interruptions(piece.times)
        for index, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(piece.values)], strict=True)):
            if index:
                kept, skip, length = None, 0, 0
            row += stop - start
            length += stop - start
            longest = max(longest, length)
            series = piece.values[min(start + skip, stop) : stop]
            skip -= min(skip, stop - start)
            series = series if kept is None else np.concatenate([kept, series])
            if len(series) < window:
                kept = series.copy()
                continue
            view = windows(series, window, stride)
            used = len(view) * stride
            kept, skip = series[used:].copy(), max(0, used - len(series))
            count += len(view)
            yield row - len(series) + window + stride * np.arange(len(view)), view
    if not count:
        raise too_short(where, longest, window)


def _with_enough_times(pieces: Iterable[Piece]) -> Iterator[Piece]:
    first: list[Piece] = []
    rest = iter(pieces)
    for piece in rest:
        first.append(piece)
        if piece.times is None or sum(len(p.values) for p in first) > FILE_MEDIAN_STEPS:
            break
    if first:
        times = [p.times for p in first if p.times is not None]
        yield Piece(np.concatenate([p.values for p in first]), np.concatenate(times) if times else None)
    yield from rest
