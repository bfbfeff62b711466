"""Whether the sensors still speak: readings come, with all their channels, and come to something.

A dead sensor, or a sender that is gone, must not look like a machine that is well.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..bundle.manifest import Input
from .log import Line
from .metrics import Metrics

SILENT_STEPS = 10
"""Number of usual steps, or of readings, without a full one that counts as silence."""
LEAST_SECONDS = 5.0
"""Shortest silence in seconds that is reported."""
DEFAULT_SECONDS = 600.0
"""Silence in seconds that is reported where no usual step is known yet."""
REMEMBERED_ARRIVALS = 101
"""Most times between readings that are remembered."""
INFINITE_FLOAT32 = 2.0**128
"""A value from which a float32 is infinite."""
LEAST_ARRIVALS = 2
"""Least times between readings from which their usual step is known."""
LONGEST_STEP_SECONDS = 366 * 86_400.0
"""Longest step in seconds; no step counts as longer."""


class Silence:
    """Follows readings, for one thread; logs when full ones stay away and why, and when they are back."""

    def __init__(
        self,
        wanted: Input,
        step: Callable[[], float],
        *,
        seconds: float | None,
        log: logging.Logger,
        metrics: Metrics,
    ) -> None:
        """Begin now.

        Args:
            wanted: defines what a full reading is.
            step: gives the usual seconds between readings by their own times, or 0 where that is not known.
            seconds: how long a full reading may stay away, if not `SILENT_STEPS` usual steps.
            log: gets a record for each change.
            metrics: of which ``stale`` and ``full_reading_age_seconds`` are kept up to date.
        """
        self.is_stale = False
        self.remark: object = ""
        """Why else nothing may come: a part of a `Line`."""
        self._channels = wanted.size // (wanted.window or 1)
        self._names = wanted.features or [f"channel {i + 1}" for i in range(self._channels)]
        self._window, self._stride = wanted.window or 1, wanted.stride or 1
        self._step, self._given, self._log, self._metrics = step, seconds, log, metrics
        self._gaps: deque[float] = deque(maxlen=REMEMBERED_ARRIVALS)
        self._full = self._arrived = time.monotonic()
        self._has_full = False
        self._poor = self._fruitless = 0
        self._gone: dict[str, None] = {}
        self._why = self._reported = ""

    @property
    def seconds(self) -> float:
        """How long a full reading may stay away."""
        usual = self._usual
        return self._given or (max(LEAST_SECONDS, SILENT_STEPS * usual) if usual else DEFAULT_SECONDS)

    @property
    def expiry(self) -> int | None:
        """Seconds after which a result is too old to be shown; None where no usual step is known yet."""
        usual = self._usual
        return math.ceil(self.seconds + usual * (self._window + self._stride)) if usual else None

    @property
    def _usual(self) -> float:
        gaps = sorted(self._gaps)
        arrival = gaps[len(gaps) // 2] if len(gaps) >= LEAST_ARRIVALS else 0.0
        return min(max(self._step(), arrival), LONGEST_STEP_SECONDS)

    def note(self, values: Any, *, is_full: bool, has_result: bool = False, why: str = "") -> None:
        """Note that a reading came.

        Args:
            values: the reading's; None where it could not be read.
            is_full: whether it was taken with all its values.
            has_result: whether it completed a window.
            why: if it was not taken, the reason.
        """
        now = time.monotonic()
        if self._has_full:
            self._gaps.append(now - self._arrived)
        self._arrived = now
        self._fruitless = 0 if has_result else self._fruitless + 1
        if is_full:
            self._full, self._has_full, self._poor = now, True, 0
        else:
            self._poor += 1
            self._why = why
            self._gone |= dict.fromkeys(self._missing(values))
        if self._fruitless or self._poor or self.is_stale:
            self.check()
        if has_result:
            self._gone = {}

    def check(self) -> None:
        """Log what has changed; also where nothing came."""
        now = time.monotonic()
        self._metrics.full_reading_age_seconds = now - self._full if self._has_full else math.nan
        kind, reason = self._reason(now)
        if kind and kind != self._reported:
            self._log.warning(Line("stale: ", reason))
            self._reported, self.is_stale = kind, True
        elif not kind and self.is_stale and not self._poor:
            names = f"; {_listed(self._gone)} back" if self._gone else ""
            self._log.info(Line(f"stale no more: full readings come again{names}"))
            self._reported, self.is_stale = "", False
        self._metrics.stale = int(self.is_stale)

    def _reason(self, now: float) -> tuple[str, object]:
        """Return what is wrong: a text that changes when it is to be logged again, and what to log."""
        seconds = self.seconds
        because = f"{_listed(self._gone)} missing" if self._gone else self._why
        if self._poor >= SILENT_STEPS:
            text = f"none of the last {SILENT_STEPS} readings was full"
            return because or "poor", f"{text}{': ' * bool(because)}{because}"
        most = SILENT_STEPS * (self._window + self._stride)
        if self._fruitless >= most:
            text = f"none of the last {most} readings completed a window of {self._window}"
            return "window", f"{text}{': ' * bool(because)}{because}"
        if now - self._arrived > seconds:
            return "silence", Line(f"no reading came for {seconds:.3g} s", self.remark)
        if now - self._full > seconds:
            return "full", f"no full reading came for {seconds:.3g} s{': ' * bool(because)}{because}"
        return "", ""

    def _missing(self, values: Any) -> list[str]:
        if not isinstance(values, list) or len(values) != self._channels:
            return []
        return [name for name, value in zip(self._names, values, strict=True) if not _is_there(value)]


def _is_there(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < INFINITE_FLOAT32


def _listed(names: dict[str, None]) -> str:
    first, more = [*names][:10], len(names) - 10
    return f"{', '.join(first)}{f' and {more} more' if more > 0 else ''} {'is' if len(names) == 1 else 'are'}"
