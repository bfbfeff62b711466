"""The order of readings, by time and by sequence number: repeats, late ones, and gaps in the series.

Both may be wrong: a counter that overflows, a Pi without a clock of its own that begins in 1970, one damaged
message. So one that is far off is believed only when the next agrees with it: then a clock was really set, or
a counter restarted. Until then the reading is taken without it.
"""

from bisect import insort
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec

from .clock import GAP

LIVE_MEDIAN_STEPS = 101
"""Number of first steps whose median is the usual step of a live series; before, of those so far."""
LATE_RUN = 100
"""Number of late samples in a row, each after the one before it, that prove a clock set back for good."""
LONGEST_STEP = timedelta(days=366)
"""Longest step, either way, that is believed at once; a longer one only when the next time agrees with it."""
LEAP_FACTOR = 10
"""A gap longer than this many limits is taken back where the next time goes on from before the gap."""
MOST_REPEATS = 10_000
"""Number of known sequence numbers in a row that count as repeats; more of them are new readings. Brokers
were seen to send a thousand again after a restart."""
RESTART_GAP = 1000
"""Distance in sequence numbers: a 0 or 1 at least so far behind the last comes from a sender that was
restarted, and a longer jump forward is believed only when the next number agrees with it."""
NEIGHBOUR_GAP = 10
"""Longest distance to a known range at which a number that stands alone counts as its neighbour."""
MOST_RANGES = 16
"""Most ranges of sequence numbers that are remembered."""

ON, CUT, LATE, DOUBT, CUT_BEFORE, RESUME = range(6)
"""What `StreamClock.take` returns for a sample: the series goes on; it is interrupted before it; the sample
came too late; its time is not believed, and the series goes on; the time before was right, and the series is
interrupted before that; the gap before the last one was none."""

_NO_TIME = timedelta(0)


class StreamClock(msgspec.Struct, kw_only=True):
    """The clock of a stream."""

    limit: timedelta = timedelta(0)
    """A longer step is a gap."""
    steps: list[timedelta] | None = []
    """Steps so far, in order of length, until the limit is settled."""
    last: datetime | None = None
    """The last that was believed."""
    behind: datetime | None = None
    """The last late one."""
    gaps: int = 0
    """Gaps in a row; `LIVE_MEDIAN_STEPS` of them are another rate, unless it was given."""
    is_given: bool = False
    run: int = 0
    """Late samples in a row, each after the one before it."""
    odd: datetime | None = None
    """Time of the sample before, where it was not believed."""
    doubted: int = 0
    """Samples since the last one whose time was believed."""
    before: datetime | None = None
    """Where the sample before came after a gap: the last one before that."""

    def take(self, time: datetime) -> int:
        """Move on to the time of a sample; return one of the constants above."""
        if time.tzinfo is not None:  # two times of one zone subtract as if its clock never changed
            with suppress(OverflowError):  # at the end of the calendar
                time = time.astimezone(UTC)
            time = time.replace(tzinfo=None)
        last = self.last
        if last is None:
            self.last = time
            return ON
        step = time - last
        if not -LONGEST_STEP <= step <= LONGEST_STEP:
            return self._doubt(time)
        before, self.before, self.odd = self.before, None, None
        if step <= _NO_TIME:
            if before is not None and self._goes_on_from(before, time):
                if self.steps:  # forget the step ahead again
                    self.steps.remove(last - before)
                    self._learn((time - before) / 2)
                self.last, self.gaps = time, max(0, self.gaps - 1)
                return RESUME
            self.run = self.run + 1 if self.behind is not None and self.run and time > self.behind else 1
            self.behind = time
            if self.run < LATE_RUN:
                return LATE
        else:
            if self.doubted:
                step /= 1 + self.doubted
            if self.steps is not None:
                self._learn(step)
        self.last = time
        self.run = self.doubted = 0
        if _NO_TIME < step <= self.limit:
            self.gaps = 0
            return ON
        self.before = last if time - last == step else None
        self.gaps += 1
        if self.gaps == LIVE_MEDIAN_STEPS and not self.is_given:
            self.steps, self.gaps = [], 0
        return CUT

    def _learn(self, step: timedelta) -> None:
        steps = self.steps or []
        insort(steps, step)
        middle = len(steps) // 2
        self.limit = GAP / 2 * (steps[middle] + steps[-1 - middle])
        self.steps = None if len(steps) == LIVE_MEDIAN_STEPS else steps

    def _goes_on_from(self, before: datetime, time: datetime) -> bool:
        """Return whether the sample before, behind a long gap, lay between these two."""
        is_long = self.last is not None and self.last - before > LEAP_FACTOR * self.limit
        return is_long and _NO_TIME < time - before <= 2 * self.limit

    def _doubt(self, time: datetime) -> int:
        """Take a time that is far off: of the clock alone if it is the first."""
        odd, self.before = self.odd, None
        if odd is None or not _NO_TIME < time - odd <= LONGEST_STEP:
            self.odd, self.doubted = time, min(RESTART_GAP, self.doubted + 1)
            return DOUBT
        is_gap = self.steps is None and time - odd > self.limit
        self.last, self.odd, self.doubted, self.run, self.gaps = time, None, 0, 0, 0
        return CUT if is_gap else CUT_BEFORE


class Numbers(msgspec.Struct):
    """The numbers that readings came with, as a few ranges, so that one that comes again is known."""

    ranges: list[tuple[int, int]] = []
    """First and last; the one that goes on stands last."""
    anew: int | None = None
    """Number of the reading before, where it may be the first of a counter that was restarted."""
    repeats: int = 0
    """Repeats in a row."""
    is_far: bool = False
    """Whether the reading before came after a jump that is not believed yet."""

    def take(self, number: int, *, is_later: bool) -> int | None:
        """Note the number of a reading.

        Args:
            number: the reading's.
            is_later: whether its time shows that it is a new one.

        Returns:
            How many are missing before it, or None where it was there before.
        """
        anew, far = self.anew, self.is_far
        goes_on = bool(self.ranges) and number == self.ranges[-1][1] + 1
        if anew is not None and 0 < number - anew <= RESTART_GAP:
            self._begin(anew, number)
            return number - anew - 1
        if not goes_on and self._knows(number):
            is_first = number <= 1 and self.ranges[-1][1] - number >= RESTART_GAP
            if (is_first and number != anew) or is_later:
                self.anew = number
                return 0
            self.repeats += 1
            if self.repeats <= MOST_REPEATS:
                return None
            self._begin(number, number)
            return 0
        self.anew, self.is_far, self.repeats = None, False, 0
        for place, (first, last) in reversed([*enumerate(self.ranges)]):
            if last == number - 1:
                del self.ranges[place]
                self.ranges.append((first, number))
                return int(far and goes_on)
        missing = self._missing(number)
        self.is_far = missing > RESTART_GAP
        self.ranges.append((number, number))
        if len(self.ranges) > MOST_RANGES:
            self._tidy()
        return 0 if self.is_far else missing

    def _missing(self, number: int) -> int:
        """Count those between it and the next lower that was there; an odd one in between was one of them."""
        below = max((last for _, last in self.ranges if last < number), default=number - 1)
        missing = number - below - 1
        first, last = self.ranges[-1] if self.ranges else (0, 0)
        return max(0, missing - 1) if first == last != below else missing

    def _knows(self, number: int) -> bool:
        """Return whether it was there; one that stands alone, not between others, proves nothing."""
        if self.ranges and self.ranges[-1][0] <= number <= self.ranges[-1][1]:
            return True
        if (number, number) not in self.ranges:
            return any(first <= number <= last for first, last in self.ranges)
        before = any(0 < number - last <= NEIGHBOUR_GAP for _, last in self.ranges)
        return before and any(0 < first - number <= NEIGHBOUR_GAP for first, _ in self.ranges)

    def _begin(self, first: int, last: int) -> None:
        self.ranges, self.anew, self.repeats, self.is_far = [(first, last)], None, 0, False

    def _tidy(self) -> None:
        """Forget the holes between ranges of more than one number, and what lies back longest."""
        *others, current = self.ranges
        alone = [found for found in others if found[0] == found[1]]
        longer: list[tuple[int, int]] = []
        for first, last in sorted(set(others).difference(alone)):
            if longer and first - longer[-1][1] <= RESTART_GAP:
                longer[-1] = longer[-1][0], max(last, longer[-1][1])
            else:
                longer.append((first, last))
        self.ranges = [*alone, *longer, current][-MOST_RANGES:]
