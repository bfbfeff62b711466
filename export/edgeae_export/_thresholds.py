"""Choosing the error above which a sample is called an anomaly."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError, EdgeaeError, Threshold
from edgeae_runtime._errors import Argument
from edgeae_runtime._names import DEFAULT_RULE_TEXT

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)
"""Kept in the manifest, so that a device can choose another false-alarm rate without data."""

_EXAMPLES = "quantile:0.99, sigma:3, max, max:1.33 or f1"


class RuleError(EdgeaeError):
    """A threshold rule that is not known, or that lacks what it needs."""


@dataclass(frozen=True)
class Rule:
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
