"""Drift detection: whether the errors are still those of training.

Two shares of the windows are followed, each an exponentially weighted moving average (Roberts, *Control Chart
Tests Based on Geometric Moving Averages*, Technometrics 1(3), 1959): of those above the normal error's 90 %
quantile, and of those above half its median. The first being over a half is the same as the running median
being above the normal 90 % quantile.
"""

import msgspec

from ..errors import DataError


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How long the errors must differ from those of training until the stream reports drift."""

    memory: int = 1000
    """Windows: after so many, a window's weight has fallen to 37 %, and before so many nothing is reported.
    Take more than a whole cycle of the plant (a day, a week), else its quiet half counts as a drift."""

    def __post_init__(self) -> None:
        """Raise DataError for a memory of nothing."""
        if self.memory < 1:
            raise DataError(f"drift: memory is {self.memory} windows; want at least 1")


class DriftState(msgspec.Struct):
    """State of drift detection."""

    windows: int = 0
    high: float = 0.1
    """Share of the windows above the normal 90 % quantile; that of normal operation to begin with."""
    some: float = 0.9
    """Share of the windows above half the normal median."""
    reported: str | None = msgspec.field(default=None, name="said")
    """What it reported last; stored states call it ``said``."""

    def count(self, drift: Drift, error: float, quantiles: dict[str, float]) -> str | None:
        """Take the next window's error; return in words what is wrong, or None.

        What was once reported holds until the share is well back, so that it does not flicker.
        """
        rate = 1 / drift.memory
        top, bottom = quantiles["0.9"], quantiles["0.5"] / 2
        self.windows += 1
        self.high += rate * ((error > top) - self.high)
        self.some += rate * ((error >= bottom) - self.some)
        if self.windows < drift.memory:
            return None
        if self.high > (0.3 if self.reported else 0.5):
            self.reported = (
                f"errors are high: of about the last {drift.memory:,} windows {self.high:.0%} are above "
                f"{top:.3g}, where 10% should be; the machine, a sensor or the surroundings have changed: "
                "look into it, then recalibrate, or train again"
            )
        elif self.some < (0.3 if self.reported else 0.1):
            self.reported = (
                f"errors are low: of about the last {drift.memory:,} windows {1 - self.some:.0%} are below "
                f"{bottom:.3g}, half the usual median; a sensor may be stuck or the machine at rest"
            )
        else:
            self.reported = None
        return self.reported
