"""Samples to train on or to look at, with all that is known of them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Data:
    """Samples in raw units."""

    values: np.ndarray
    """(samples, ...): finite float32, or integers of the type that the file holds; never empty."""

    features: tuple[str, ...] | None
    """The names of the columns of a table, in the order of ``values``; None for other files."""

    labels: np.ndarray | None = None
    """(samples,): integers or text, where a column of labels was named."""

    timestamps: np.ndarray | None = None
    """(samples,), ``datetime64[us]``: the time of a row, or of the last reading of a window."""

    window: int | None = None
    """Readings in one sample, (samples, window, channels); None where samples are no windows."""

    stride: int | None = None
    """Readings from the start of one window to the start of the next."""

    segments: tuple[tuple[range, ...], ...] | None = None
    """Where samples in order of time start: for each file, and in it for each segment, their positions,
    counted in readings of the file. None where order means nothing."""
