"""What a stream returns for a window."""

from datetime import datetime
from typing import NamedTuple

from ..bundle.manifest import Floats


class StreamResult(NamedTuple):
    """What `Stream.push` returns for a window."""

    sequence: int
    """Number of the window in the stream, from 1; it goes on after a restart with `Stream.state`."""
    time: datetime | None
    """Time of its last sample, as it was given; None where it was not believed."""
    error: float
    """Infinite where the readings are so far from the training data that it overflows."""
    threshold: float
    anomaly: bool
    """Whether the error is above the threshold."""
    alarm: bool
    """Whether an alarm is on; see `Alarm`."""
    embedding: Floats
    """(latent size,); NaN where the error is infinite."""
    drift: str | None
    """In words, why the model no longer fits its surroundings; see `Drift`."""
