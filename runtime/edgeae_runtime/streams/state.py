"""The state of a stream that survives a restart."""

import msgspec

from ..series.stream_clock import StreamClock
from .alarm import AlarmState
from .drift import DriftState


class Open(msgspec.Struct):
    """The open window."""

    rows: bytes
    """The last samples of the segment, at most a window of them, (n, values) as little-endian float32."""
    left: int
    """Samples until the next window is full."""
    held: list[int]
    """Number of each channel's last values in a row that were missing."""


class State(msgspec.Struct):
    """State of a stream that survives a restart: all but the open window, unless that is asked for."""

    sequence: int
    samples: int
    votes: AlarmState
    shares: DriftState
    quantiles: dict[str, float]
    """Quantiles of the error that the drift state refers to."""
    ticks: StreamClock
    open: Open | None = None
