"""Sliding windows over a series of readings, alike in training and on the device.

A window lies within one uninterrupted segment of one file.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import as_array
from ..errors import DataError
from ..named import by_name, names_of
from ..readers.table import Piece
from .clock import FILE_MEDIAN_STEPS, Clock


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
    """Return the error for a series in which no window fits."""
    return DataError(
        f"{where}: its longest uninterrupted segment has {longest:,} readings, fewer than a window of "
        f"{window:,}; give a longer series or a smaller window"
    )


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
