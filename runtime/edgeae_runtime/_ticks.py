"""The clock of a live series: which samples come too late, and where the series is interrupted."""

from bisect import insort
from datetime import UTC, datetime, timedelta

import msgspec

from ._windows import GAP

USUAL_STEPS = 101
"""The usual step is the median of the steps so far, and then of that many first ones."""
LATE_RUN = 100
"""So many late samples in a row, each after the one before it: the clock was set back for good."""

_EPOCH = datetime(1970, 1, 1)
_NO_TIME = timedelta(0)


class TicksState(msgspec.Struct, kw_only=True):
    """What outlives a restart."""

    limit: float | None
    """Seconds; a longer step is a gap. None until it is settled."""
    steps: list[float]
    """Seconds; those so far, until it is settled."""
    last: datetime | None


class Ticks:
    """Takes the times of samples, or none at all."""

    def __init__(self, step: float | None) -> None:
        """Take the usual step in seconds, or None to find out."""
        self.late = 0
        """Samples to drop, so far."""
        self._step = step
        self._steps: list[timedelta] | None = [] if step is None else None
        self._limit = timedelta.max if step is None else timedelta(seconds=GAP * step)
        self._last: datetime | None = None
        self._behind: datetime | None = None
        self._run = 0

    @property
    def seconds(self) -> float | None:
        """The last time, in seconds since 1970; None where there was none."""
        return None if self._last is None else (self._last - _EPOCH).total_seconds()

    def take(self, time: datetime) -> bool | None:
        """Move on to the time of a sample.

        Returns:
            True where the series goes on, False where it is interrupted before the sample, and None where the
            sample is late.
        """
        if time.tzinfo is not None:  # two times of one zone subtract as if its clock never changed
            time = time.astimezone(UTC).replace(tzinfo=None)
        last = self._last
        if last is None:
            self._last = time
            return True
        step = time - last
        if step <= _NO_TIME:
            return self._take_late(time)
        if self._steps is not None:
            self._learn(step)
        self._last = time
        self._run = 0
        return step <= self._limit

    def _learn(self, step: timedelta) -> None:
        steps = self._steps
        assert steps is not None
        insort(steps, step)
        middle = len(steps) // 2
        self._limit = GAP / 2 * (steps[middle] + steps[-1 - middle])
        if len(steps) == USUAL_STEPS:
            self._steps = None

    def _take_late(self, time: datetime) -> bool | None:
        """Drop a late sample, unless it ends such a run that the clock must have been set back."""
        in_order = self._run > 0 and self._behind is not None and time > self._behind
        self._run = self._run + 1 if in_order else 1
        self._behind = time
        if self._run < LATE_RUN:
            self.late += 1
            return None
        self._last = time
        self._run = 0
        return False

    def state(self) -> TicksState:
        """Return what outlives a restart."""
        return TicksState(
            limit=None if self._steps is not None else self._limit.total_seconds(),
            steps=[step.total_seconds() for step in self._steps or []],
            last=self._last,
        )

    def restore(self, state: TicksState) -> None:
        """Go on from there; a step that was given holds."""
        self._last = state.last
        if self._step is not None:
            return
        if state.limit is not None:
            self._steps, self._limit = None, timedelta(seconds=state.limit)
        else:
            for step in state.steps[: USUAL_STEPS - 1]:
                self._learn(timedelta(seconds=step))
