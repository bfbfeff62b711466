"""What was set as the aim, and whether the results reach it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

FLAT = ("dense", "mlperf")
"""The models that the targets speak of."""


def share(value: float) -> str:
    """Write a ratio, a small one as a fraction."""
    return f"1/{1 / value:,.0f}" if value < 0.05 else f"{value:.3f}"


def percent(value: float) -> str:
    """Write a share with as many digits as it needs."""
    return f"{value:.2%}" if value >= 5e-5 else "0"


class Target(NamedTuple):
    what: str
    found: float
    limit: float
    """The most that is allowed."""
    low: float | None = None
    """95 % interval of what was found, where it is a ratio of times."""
    high: float | None = None
    write: Callable[[float], str] = share

    @property
    def met(self) -> bool:
        return self.found <= self.limit

    def cells(self) -> list[str]:
        """Return a row of the page's table."""
        write = self.write
        known = self.low is not None and self.high is not None
        between = f" ({write(self.low)} to {write(self.high)})" if known else ""
        verdict = "met" if self.met else f"**missed** by {self.found / self.limit - 1:.1%}"
        return [self.what, f"≤ {write(self.limit)}", write(self.found) + between, verdict]


ONE_ROW = (
    ("ours_auto", "onnxruntime_int8", 0.2),
    ("ours_auto", "litert_int8", 0.5),
    ("ours_auto", "tf_function", 1 / 60),
    ("ours_auto", "keras_predict", 1 / 5000),
    ("ours_onnxruntime", "onnxruntime_int8", 0.65),
)
NAMES = {"ours_auto": "ours (auto)", "ours_onnxruntime": "ours, onnxruntime alone installed"}


def targets(results: dict[str, Any], titles: dict[str, str]) -> Iterator[Target]:
    """Yield the targets that the results can say something of.

    Args:
        results: what results.json holds.
        titles: of the candidates.
    """
    for model in FLAT:
        one = results["latency"][model]["one"]["ratios"]
        for ours, peer, limit in ONE_ROW:
            if peer in one[ours]:
                estimate, low, high = one[ours][peer]
                what = f"{model}, one row: {NAMES[ours]} of {titles[peer]}"
                yield Target(what, estimate, limit, low, high)
    for model in FLAT:
        many = results["latency"][model]["many"]
        times = {
            name: t["p50"]
            for name, t in many["seconds"].items()
            if not name.startswith("ours") and name != "pca"
        }
        best = min(times, key=lambda name: times[name])
        estimate, low, high = many["ratios"]["ours_auto"][best]
        what = f"{model}, 10,000 rows, two threads: ours (auto) of the best peer, {titles[best]}"
        yield Target(what, estimate, 1.0, low, high)
    cold = results["cold"]["dense"]
    kindest = min(("keras_call", "tf_function"), key=lambda name: cold[name]["seconds"])
    for key, what, limit in (
        ("seconds", "cold start to the first score", 1 / 15),
        ("resident", "resident memory", 1 / 8),
    ):
        found = cold["ours_auto"][key] / cold[kindest][key]
        yield Target(f"dense, {what}: ours (auto) of {titles[kindest]}", found, limit)
    for model in FLAT:
        artifacts = results["model"][model]["artifacts"]
        for kind in ("onnx", "tflite"):
            int8, float32 = artifacts[f"scorer.int8.{kind}"], artifacts[f"scorer.float32.{kind}"]
            yield Target(
                f"{model}, bytes of scorer.int8.{kind} of float32's", int8["bytes"] / float32["bytes"], 0.28
            )
            what = f"{model}, median change of the error by scorer.int8.{kind}"
            yield Target(what, int8["error_median"], 0.005, write=percent)
