"""The state of a stream that survives a restart."""

import msgspec

from ..series.stream_clock import StreamClock
from .alarm import AlarmState
from .drift import DriftState


class Open(msgspec.Struct):
    """The open window."""

    rows: bytes
    """The last samples of the stretch, at most a window of them, (n, values) as little-endian float32."""
    left: int
    """Samples until the next window is full."""
    held: list[int]
    """Of each channel, so many of its last values were missing."""


class State(msgspec.Struct):
    """What outlives a restart: all but the open window, unless that is asked for."""

    sequence: int
    samples: int
    votes: AlarmState
    shares: DriftState
    quantiles: dict[str, float]
    """Those that the shares are of."""
    ticks: StreamClock
    open: Open | None = None
