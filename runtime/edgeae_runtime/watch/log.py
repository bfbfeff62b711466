"""The log of a watch."""

import math
import time
from collections.abc import Callable

QUIET_SECONDS = 10.0
LINE_LENGTH = 500
"""Most characters of a logged line, of which a reading may bring any number."""


class Log:
    """Logs events, a line each, whatever is in the text."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """Write lines to where ``write`` does."""
        self._write = write
        self._held: dict[str, tuple[float, int, str]] = {}

    def write(self, text: str) -> None:
        """Write a line at once."""
        short = text if len(text) <= LINE_LENGTH else f"{text[:LINE_LENGTH]}…"
        self._write("".join(char if char.isprintable() else " " for char in short))

    def rate_limited(self, text: str, kind: str = "") -> None:
        """Log something that may come with every reading, but not each time."""
        last, count, _ = self._held.get(kind, (-math.inf, 0, ""))
        self._held[kind] = last, count + 1, text[: LINE_LENGTH + 1]
        self.flush(kind)

    def flush(self, *kinds: str, now: bool = False) -> None:
        """Log what came meanwhile, if it is time or ``now``: of these kinds or of all."""
        for kind in kinds or list(self._held):
            last, count, text = self._held[kind]
            if count and (now or time.monotonic() - last >= QUIET_SECONDS):
                self.write(f"{text} ({count} such since the last line)" if count > 1 else text)
                self._held[kind] = time.monotonic(), 0, ""
