"""The alarm: m-of-n voting with a lower level for the end (hysteresis), an off time and a warm-up.

These are the means against chattering alarms of ISA-18.2, *Management of Alarm Systems for the Process
Industries*.
"""

import math

import msgspec

from ..errors import DataError


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """When an alarm starts and when it ends; as it stands, it is on while the last window is an anomaly."""

    needed: int = 1
    """Number of the last `among` windows that must be above the threshold for an alarm to start."""
    among: int = 1
    release: float = 1.0
    """The alarm ends once fewer than `needed` of the last `among` windows are above `release` times the
    threshold; at most 1. At 0.8 it stays on while the error hovers just below the threshold."""
    refractory: float = 0.0
    """Seconds after the end of an alarm in which no other one starts."""
    warm_up: int = 0
    """First windows of the stream that have no vote, while the machine or the sensor warms up."""

    def __post_init__(self) -> None:
        """Raise DataError for settings that no alarm can have."""
        if not 1 <= self.needed <= self.among:
            raise DataError(f"alarm: needs {self.needed} of {self.among} windows; want 1 <= needed <= among")
        if not 0 < self.release <= 1:
            raise DataError(f"alarm: release is {self.release:g}; want above 0 and at most 1")
        if not (0 <= self.refractory < math.inf and self.warm_up >= 0):
            raise DataError(
                f"alarm: refractory {self.refractory:g} s and warm_up {self.warm_up}; want 0 or more"
            )


class AlarmState(msgspec.Struct):
    """State of an alarm: a few numbers, whatever the length of the stream."""

    windows: int = 0
    """Windows so far, those of the warm-up included."""
    above: int = 0
    """A bit for each of the last `Alarm.among` windows, the newest lowest: above the threshold?"""
    held: int = 0
    """A bit for each of these windows: above the release level?"""
    on: bool = False
    ended: float | None = None
    """Seconds at which the last alarm ended."""

    def count(self, alarm: Alarm, error: float, threshold: float, seconds: float) -> bool:
        """Take the next window's error at a time in seconds, and return whether the alarm is on."""
        self.windows += 1
        if self.windows <= alarm.warm_up:
            return False
        mask = (1 << alarm.among) - 1
        self.above = (self.above << 1 | (error > threshold)) & mask
        self.held = (self.held << 1 | (error > alarm.release * threshold)) & mask
        if self.on:
            self.on = self.held.bit_count() >= alarm.needed
            if not self.on:
                self.ended = seconds
        elif self.above.bit_count() >= alarm.needed:
            # a clock that was set back since must not silence the alarm until it catches up
            quiet = self.ended is not None and 0 <= seconds - self.ended < alarm.refractory
            self.on = not quiet
        return self.on
