"""`edgeae watch`: readings in, results out, for years; as a library `run` with a `WatchConfig`.

A source or a sink of one's own derives from `Source` or `Sink`, and hands the events below over.
"""

from typing import TYPE_CHECKING

from ..lazy import attributes

if TYPE_CHECKING:
    from .config import WatchConfig
    from .events import (
        Connected,
        Delivered,
        Disconnected,
        Event,
        Failed,
        Finished,
        Lines,
        Message,
        Position,
        Post,
        Receipt,
        Rejected,
        Retried,
    )
    from .service import run
    from .sinks.sink import Sink
    from .sources.source import Source

__all__ = [
    "Connected",
    "Delivered",
    "Disconnected",
    "Event",
    "Failed",
    "Finished",
    "Lines",
    "Message",
    "Position",
    "Post",
    "Receipt",
    "Rejected",
    "Retried",
    "Sink",
    "Source",
    "WatchConfig",
    "run",
]

if not TYPE_CHECKING:  # a type checker would take any name for one of these
    __getattr__ = attributes(
        __name__,
        {
            "Connected": "events",
            "Delivered": "events",
            "Disconnected": "events",
            "Event": "events",
            "Failed": "events",
            "Finished": "events",
            "Lines": "events",
            "Message": "events",
            "Position": "events",
            "Post": "events",
            "Receipt": "events",
            "Rejected": "events",
            "Retried": "events",
            "Sink": "sinks.sink",
            "Source": "sources.source",
            "WatchConfig": "config",
            "run": "service",
        },
    )
