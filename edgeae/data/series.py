"""Series of readings: their uninterrupted segments, and the windows over them."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError, windows
from edgeae_runtime.errors import EdgeaeWarning
from edgeae_runtime.readers import PIECE_VALUES
from edgeae_runtime.series import Clock, too_short

from .spill import SpillBuffer

WindowStarts: TypeAlias = tuple[tuple[range, ...], ...]
"""Where windows start, by file and segment; see `edgeae.data.dataset.Data.segments`."""


@dataclass(frozen=True)
class Segment:
    """The readings of a file, by position, between two interruptions."""

    start: int
    stop: int

    def starts(self, window: int, stride: int) -> range:
        """Return where its windows start."""
        return range(self.start, max(self.start, self.stop - window + 1), stride)


def segments_of(
    count: int, times: NDArray[np.datetime64] | None, wanted: NDArray[np.bool_] | None, where: str
) -> list[Segment]:
    """Return the uninterrupted segments of a file, in order.

    Args:
        count: readings in the file.
        times: of the readings, (count,); gaps between them interrupt.
        wanted: which readings may be part of a segment, (count,); None for all.
        where: what errors call the file.

    Raises:
        DataError: the times are not in order.
        (warning) EdgeaeWarning: once or rarely they are not.
    """
    cuts = [] if times is None else Clock(where).interruptions(times)
    if wanted is not None:
        cuts = sorted({*cuts, *(np.flatnonzero(np.diff(wanted)) + 1).tolist()})
    found = [Segment(a, b) for a, b in zip([0, *cuts], [*cuts, count], strict=True)]
    return [segment for segment in found if wanted is None or wanted[segment.start]]


def place_windows(found: Sequence[Segment], window: int, stride: int) -> tuple[range, ...]:
    """Return where windows start, segment by segment; those too short for one are left out.

    Raises:
        (warning) EdgeaeWarning: with the number of readings that are in no window for that reason.
    """
    places = tuple(starts for segment in found if len(starts := segment.starts(window, stride)))
    left = [s.stop - s.start for s in found if not len(s.starts(window, stride))]
    if left and places:
        warnings.warn(
            f"{sum(left):,} readings lie in {len(left)} segments shorter than a window of {window:,}, and "
            "are left out",
            EdgeaeWarning,
            stacklevel=2,
        )
    return places


def cut_windows(
    readings: NDArray[Any], places: WindowStarts, offsets: Sequence[int], window: int
) -> NDArray[Any]:
    """Return the windows (count, window, channels); of one segment as a view, of several as a copy.

    Args:
        readings: those of all files, one below the other.
        places: where windows start, in readings of their file.
        offsets: where the files start.
        window: readings in a window.
    """
    views = [
        windows(readings[offset + starts.start : offset + starts[-1] + window], window, starts.step)
        for offset, file in zip(offsets, places, strict=True)
        for starts in file
    ]
    if len(views) == 1:
        return views[0]
    return SpillBuffer().extend(step for view in views for step in _small(view)).finish()


def _small(view: NDArray[Any]) -> Iterator[NDArray[Any]]:
    rows = max(1, PIECE_VALUES // view[0].size)
    for start in range(0, len(view), rows):
        yield view[start : start + rows]


def check_window(window: int | None, stride: int) -> None:
    """Refuse a window or a stride below 1.

    Raises:
        DataError: with both numbers.
    """
    if stride < 1 or (window is not None and window < 1):
        raise DataError(f"window {window} and stride {stride}: both must be at least 1")


def nothing_fits(where: str, found: Sequence[Segment], window: int) -> DataError:
    """Return the error for data without a single window."""
    return too_short(where, max((s.stop - s.start for s in found), default=0), window)
