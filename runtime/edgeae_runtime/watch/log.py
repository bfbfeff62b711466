"""The log of a watch: records of `logging`, at a limited rate where each reading may cause one."""

import logging
import math
import time
from collections.abc import Mapping

from ..errors import Message

QUIET_SECONDS = 10.0
"""Seconds between two records of a kind."""
LINE_LENGTH = 500
"""Most characters of a logged line, of which a reading may bring any number."""


class Line(Message):
    """What a record says: one line of printable characters, whatever is in its parts."""

    def __init__(self, *parts: object, suffix: str = "") -> None:
        """Take the parts of a `Message`, and what stands behind them however long they are."""
        self.args = parts
        self._suffix = suffix

    def spelled(self, options: Mapping[str, str]) -> str:
        """Return the line, with each argument as the option that ``options`` has for it."""
        text = super().spelled(options)
        short = text if len(text) <= LINE_LENGTH else f"{text[:LINE_LENGTH]}…"
        return "".join(char if char.isprintable() else " " for char in short) + self._suffix


class RateFilter(logging.Filter):
    """Of the records of a kind, lets one pass in `QUIET_SECONDS`, which says how many were like it.

    A record has a kind by ``extra={"kind": …}``; one without it always passes.
    """

    def __init__(self, logger: logging.Logger) -> None:
        """Filter what is logged by ``logger``, from now until `close`."""
        super().__init__()
        self._logger = logger
        self._passed: dict[str, float] = {}
        self._held: dict[str, tuple[int, logging.LogRecord]] = {}
        logger.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record passes; else it is held back, or only counted if there is one already."""
        kind = getattr(record, "kind", None)
        if kind is None:
            return True
        if time.monotonic() - self._passed.get(kind, -math.inf) < QUIET_SECONDS:
            count, _ = self._held.get(kind, (0, record))
            self._held[kind] = count + 1, record
            return False
        count, _ = self._held.pop(kind, (0, record))
        self._mark(kind, record, count + 1)
        return True

    def flush(self, *, now: bool = False) -> None:
        """Let pass what was held back, if it is time or ``now``."""
        for kind, (count, record) in list(self._held.items()):
            if now or time.monotonic() - self._passed[kind] >= QUIET_SECONDS:
                del self._held[kind]
                self._mark(kind, record, count)
                self._logger.handle(record)

    def close(self) -> None:
        """Let pass what was held back, and leave the logger as it was."""
        self.flush(now=True)
        self._logger.removeFilter(self)

    def _mark(self, kind: str, record: logging.LogRecord, count: int) -> None:
        """Note that a record passes, for so many like it."""
        self._passed[kind] = time.monotonic()
        record.__dict__["kind"] = None  # it comes by here again where it is handled late
        if count > 1:
            record.msg = Line(record.msg, suffix=f" ({count} such since the last line)")
