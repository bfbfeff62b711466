"""What a watch wants of a sink, where results go."""

from typing import Literal, Protocol, TypeAlias

from ..events import Post

Status: TypeAlias = Literal["online", "stale"]


class Sink(Protocol):
    """Delivers results in order, each at least once; a class of its own for each kind of sink.

    Who derives from this writes only what it needs. The methods are called by the watch's thread, and none of
    them waits for the network. Results stay on the disk until `Delivered` or `Rejected` names their tickets,
    and are published anew after a restart.
    """

    ready: bool = False
    """Whether results may be published now; False while they do not arrive anyway."""
    ahead: int = 0
    """Most results that may be on their way."""

    def start(self, post: Post) -> None:
        """Connect, or begin to, and hand events over from now on."""

    def publish(self, result: bytes) -> int:
        """Take a result, a JSON object, and return a ticket, a number that no other one has meanwhile."""

    def flush(self) -> None:
        """Send what was published; called after a few results, and about each second where there are none."""
        return

    def inform(self, status: Status, expiry: int | None) -> None:
        """Let others know how the watch is, and how many seconds a result counts, if that is known yet."""
        return

    def stop(self) -> None:
        """End soon; what is on its way may be lost, and is sent anew by the next start."""
        return
