"""What happens to a watch: a frozen record for each kind of event; `loop.Watch` handles one after the other.

Sources, sinks and whoever else sees something `Post` it, in whatever thread they are.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from ..bundle.manifest import Threshold
from ..errors import EdgeaeError

if TYPE_CHECKING:
    from ..autoencoder import Autoencoder


class Position(NamedTuple):
    """Position in a followed file at which the lines so far end."""

    inode: int
    offset: int


class Receipt(NamedTuple):
    """What a source knows a message by that it delivers again until it is acknowledged."""

    id: int
    connection: int
    """Number of the connection that it came by; on another one it comes again."""


class Lines(msgspec.Struct, frozen=True):
    """A source has read whole lines, here without their ends."""

    lines: list[bytes]
    is_new: bool = False
    """Whether a file begins here."""
    position: Position | None = None
    """Where the source is to go on after a restart, if it can."""
    too_long: int = 0
    """Number of lines that were left out."""


class Message(msgspec.Struct, frozen=True):
    """A source has got a message with one reading."""

    payload: bytes
    receipt: Receipt | None = None
    """For `Source.acknowledge`, once the reading is on the disk; None where nobody waits for that."""
    is_repeat: bool = False
    """Whether it may have been delivered before."""


class Finished(msgspec.Struct, frozen=True):
    """There will be no more readings."""


class Connected(msgspec.Struct, frozen=True):
    """The connection to a broker is there, for the first time or again."""

    has_session: bool
    """Whether the broker has kept what came meanwhile."""
    limit: int | None = None
    """Largest message with a reading in bytes, which the broker was told; None where it sends none."""


class Disconnected(msgspec.Struct, frozen=True):
    """There is no connection to a broker; another attempt follows."""

    reason: str


class Delivered(msgspec.Struct, frozen=True):
    """Results have arrived, by what `Sink.publish` has returned for each."""

    tickets: tuple[int, ...]


class Rejected(msgspec.Struct, frozen=True):
    """Results are refused for good by whom they were sent to, and given up."""

    tickets: tuple[int, ...]
    reason: str


class Retried(msgspec.Struct, frozen=True):
    """An attempt to deliver results has failed; the sink makes another one."""

    reason: str


class Swapped(msgspec.Struct, frozen=True):
    """Another bundle or threshold is to run from the next reading on."""

    autoencoder: "Autoencoder"
    threshold: float | Threshold


class Refused(msgspec.Struct, frozen=True):
    """A new bundle or threshold is not used."""

    error: EdgeaeError


class Stopped(msgspec.Struct, frozen=True):
    """The watch is to end."""


class Failed(msgspec.Struct, frozen=True):
    """Something cannot go on, and the watch ends with this error."""

    error: EdgeaeError


Event: TypeAlias = (
    Lines
    | Message
    | Finished
    | Connected
    | Disconnected
    | Delivered
    | Rejected
    | Retried
    | Swapped
    | Refused
    | Stopped
    | Failed
)

Post: TypeAlias = Callable[[Event], object]
"""Hands an event over, from any thread; `Lines` and `Message` wait while there are many already."""
