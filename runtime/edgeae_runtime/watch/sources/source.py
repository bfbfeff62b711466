"""What a watch wants of a source of readings."""

from typing import Protocol

from ..events import Position, Post, Receipt


class Source(Protocol):
    """Hands readings over, as `Lines` or a `Message` each; a class of its own for each kind of source.

    Who derives from this writes only what it needs.
    """

    keeps: bool = False
    """Whether what comes while nobody watches is handed over later, so that a window goes on over a restart
    even where readings have no times."""

    def run(self, post: Post, since: Position | None) -> None:
        """Hand over what comes until there will be no more, or `stop` is called; in a thread of its own.

        Args:
            post: takes the events.
            since: position of the last `Lines` that were taken, also by a watch before; None where none is
                known.

        Raises:
            EdgeaeError: the source cannot be read; it ends the watch.
        """

    def stop(self) -> None:
        """Let `run` return soon; from another thread."""

    def acknowledge(self, receipt: Receipt) -> None:
        """Take note that a message is on the disk and need not come again; from another thread."""
        return
