"""Choosing the error above which a sample is called an anomaly."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import Argument, DataError, EdgeaeError
from ..names import DEFAULT_RULE_TEXT
from .manifest import Threshold

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)
"""Kept in the manifest, so that a device can choose another false-alarm rate without data."""

_EXAMPLES = "quantile:0.99, sigma:3, max, max:1.33 or f1"


class RuleError(EdgeaeError):
    """A threshold rule that is not known, or that lacks what it needs."""


class Rule(msgspec.Struct, frozen=True):
    """A threshold rule: ``quantile:Q``, ``sigma:K`` (mean + K deviations), ``max[:FACTOR]`` or ``f1``."""

    kind: str
    value: float

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Read a rule.

        Raises:
            RuleError: unknown kind, or a number out of range.
        """
        kind, colon, number = text.partition(":")
        defaults = {"quantile": 0.99, "sigma": 3.0, "max": 1.0, "f1": 0.0}
        try:
            value = float(number) if colon else defaults[kind]
            in_range = {"quantile": 0 < value < 1, "sigma": value > 0, "max": value > 0, "f1": not colon}[
                kind
            ]
        except (KeyError, ValueError):
            in_range = False
        if not in_range or not np.isfinite(value):
            raise RuleError(f"threshold rule {text!r} is not known; use {_EXAMPLES}")
        return cls(kind, value)

    def __str__(self) -> str:
        """Return the rule as `parse` reads it."""
        return "f1" if self.kind == "f1" else f"{self.kind}:{self.value:g}"

    def choose(self, normal: NDArray[Any], anomalous: NDArray[Any] | None = None) -> Threshold:
        """Return the threshold.

        Args:
            normal: errors of held-out normal rows, (n,).
            anomalous: errors of rows known to be anomalies, (m,); for ``f1``.

        Raises:
            DataError: ``f1`` without anomalies.
        """
        if self.kind == "quantile":
            value = float(np.quantile(normal, self.value))
        elif self.kind == "sigma":
            value = float(np.mean(normal) + self.value * np.std(normal))
        elif self.kind == "max":
            value = self.value * float(np.max(normal))
        else:
            value = _best_f1(normal, anomalous)
        return Threshold(
            rule=str(self),
            value=value,
            rows=len(normal),
            quantiles={str(q): float(np.quantile(normal, q)) for q in QUANTILES},
        )


DEFAULT_RULE = Rule.parse(DEFAULT_RULE_TEXT)


def _best_f1(normal: NDArray[Any], anomalous: NDArray[Any] | None) -> float:
    """Return the threshold with the largest F1, halfway between two neighbouring errors."""
    if anomalous is None or not len(anomalous):
        raise DataError(
            "the threshold rule f1 needs rows known to be anomalies; pass ",
            Argument("labels"),
            " with some 1s",
        )
    errors = np.concatenate([normal, anomalous])
    is_anomaly = np.arange(len(errors)) >= len(normal)
    order = np.argsort(-errors, kind="stable")
    hits = np.cumsum(is_anomaly[order])
    f1 = 2 * hits / (np.arange(1, len(errors) + 1) + len(anomalous))
    values = errors[order]
    last_of_equals = np.append(values[:-1] != values[1:], True)  # a threshold cannot part equal errors
    best = int(np.argmax(np.where(last_of_equals, f1, -1)))
    below = values[best + 1] if best + 1 < len(values) else values[best]
    return float((values[best] + below) / 2) if below < values[best] else float(np.nextafter(below, -np.inf))


LEAST_ERRORS = 20
"""Least number of errors from which a threshold is computed."""


def new_threshold(errors: ArrayLike, *, quantile: float = 0.99) -> Threshold:
    """Return the threshold that a share of normal windows stays below.

    Args:
        errors: of windows in normal operation, (n,), as `Detector.score` or a stream gives them.
        quantile: that share, above 0 and at most 1.

    Raises:
        DataError: fewer than `LEAST_ERRORS` errors, one that is not finite, more than one column, or a
            quantile out of range.
    """
    values = np.asarray(errors, np.float64)
    if values.ndim > 1 and values.size != len(values):
        raise DataError(f"errors: expected (n,), found {values.shape}; give the errors alone")
    values = values.reshape(-1)
    if not 0 < quantile <= 1:
        raise DataError(f"quantile is {quantile:g}; want above 0 and at most 1, such as 0.99")
    if len(values) < LEAST_ERRORS:
        raise DataError(
            f"{len(values)} windows of normal operation are too few for a threshold; "
            f"want at least {LEAST_ERRORS}, better some thousands"
        )
    if not np.isfinite(values).all():
        raise DataError("an error is not finite; leave out the readings that it comes from")
    return Threshold(
        rule=f"quantile:{quantile:g}",
        value=float(np.quantile(values, quantile)),
        rows=len(values),
        quantiles={str(q): float(np.quantile(values, q)) for q in QUANTILES},
    )
