"""Measuring: candidates called by turns, ratios with an interval, and what follows from them.

Nothing here knows of bundles; see `_bench_bundle` for what is measured.
"""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

Seconds: TypeAlias = NDArray[np.float64]
Progress: TypeAlias = Callable[[float], object]

ROUND_SECONDS = 200e-6
"""What a candidate's calls of one round take at least: a clock's own cost no longer counts then."""

LEAST_ROUNDS = 5
MOST_SINGLE = 10
"""Calls timed one by one in each round, for the percentiles."""

RESAMPLES = 2000


class Samples(NamedTuple):
    """What was measured of one candidate, in seconds."""

    rounds: Seconds
    """(rounds,): the mean of a round's calls back to back."""
    calls: Seconds
    """(calls,): calls timed one by one."""


class Interval(msgspec.Struct, frozen=True):
    """An estimate and its 95 % confidence interval."""

    estimate: float
    low: float
    high: float


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate at one number of rows a call, beside the fastest float32 model of the bundle."""

    candidate: str
    """``ENGINE PRECISION``, or a way to call TensorFlow."""
    precision: str
    threads: int
    rows: int
    """In each call."""
    p50: float
    """Microseconds per call, as `p90` and `p99`."""
    p90: float
    p99: float
    rows_per_second: float
    faster: Interval | None
    """How many times as fast as the bundle's fastest float32 model at as many rows; None without one."""
    error_median: float | None
    """The manifest's: median change of the error; None for TensorFlow."""


def measure(
    candidates: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    seed: int = 0,
    progress: Progress = lambda share: None,
) -> dict[str, Samples]:
    """Call all candidates round by round, each round in another order, so that a disturbance hits all alike.

    Args:
        candidates: what to call, by name.
        seconds: about how long; at least `LEAST_ROUNDS` rounds are made.
        seed: of the order.
        progress: told after each round which share of the time is over.
    """
    rng = np.random.default_rng(seed)
    counts = {name: _count(call) for name, call in candidates.items()}
    rounds: dict[str, list[float]] = {name: [] for name in candidates}
    calls: dict[str, list[float]] = {name: [] for name in candidates}
    names, start, number = list(candidates), perf_counter(), 0
    while number < LEAST_ROUNDS or perf_counter() - start < seconds:
        for index in rng.permutation(len(names)):
            call, count = candidates[names[index]], counts[names[index]]
            if count > 1:  # not timed: the caches are full of the predecessor's data
                call()
            rounds[names[index]].append(_mean_seconds(call, count))
            if count == 1:  # then the round's mean is a single call
                calls[names[index]].append(rounds[names[index]][-1])
            else:
                calls[names[index]] += [_mean_seconds(call, 1) for _ in range(min(count, MOST_SINGLE))]
        number += 1
        progress(min(1.0, (perf_counter() - start) / seconds))
    return {name: Samples(np.array(rounds[name]), np.array(calls[name])) for name in candidates}


def interleave(
    candidates: Mapping[str, Callable[[], object]], *, seconds: float, seed: int = 0
) -> dict[str, Seconds]:
    """Return `measure`'s mean seconds per call, (rounds,), of each candidate."""
    return {name: found.rounds for name, found in measure(candidates, seconds=seconds, seed=seed).items()}


def ratio(
    times_a: ArrayLike, times_b: ArrayLike, *, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Return the ratio of the medians of two candidates and its interval: estimate, low, high.

    The percentile bootstrap (Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13). Drawn anew
    are rounds, the same for both: what disturbs one candidate of a round disturbs the other too.

    Args:
        times_a: (rounds,), from `interleave`.
        times_b: (rounds,), of the same run.
        level: of the interval.
        seed: of the draws.
    """
    a, b = np.asarray(times_a, np.float64), np.asarray(times_b, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(a), (RESAMPLES, len(a)))
    ratios = np.median(a[drawn], axis=1) / np.median(b[drawn], axis=1)
    low, high = np.quantile(ratios, ((1 - level) / 2, (1 + level) / 2))
    return float(np.median(a) / np.median(b)), float(low), float(high)


def percentiles(seconds: ArrayLike) -> tuple[float, float, float]:
    """Return the 50th, 90th and 99th percentile of some seconds, in microseconds."""
    p50, p90, p99 = 1e6 * np.quantile(np.asarray(seconds, np.float64), (0.5, 0.9, 0.99))
    return float(p50), float(p90), float(p99)


def advise(timings: Sequence[Timing]) -> str:
    """Return in one sentence what to use for calls of as many rows as these have.

    Quantization is recommended, and dismissed, only where the interval excludes 1.

    Args:
        timings: of the bundle's own models, all of one number of rows; at least one.
    """
    best = min(timings, key=lambda timing: timing.p50)
    floats = [timing for timing in timings if timing.precision == "float32"]
    small = [timing for timing in timings if timing.precision != "float32"]
    if not floats:
        return f"{_name(best)} ({best.p50:,.1f} µs); the bundle has no float32 model that runs here"
    exact = min(floats, key=lambda timing: timing.p50)
    if not small:
        return f"{_name(exact)} ({exact.p50:,.1f} µs); the bundle has no quantized model that runs here"
    quick = min(small, key=lambda timing: timing.p50)
    precision = quick.precision
    if quick.faster is None or quick.faster.low <= 1 <= quick.faster.high:
        return f"{_name(exact)}: whether {precision} is any faster cannot be told from this run"
    if quick.faster.high < 1:
        slower = 1 / quick.faster.estimate
        return f"{_name(exact)}: {precision} does not pay on this CPU ({slower:.1f} times slower)"
    error = "" if quick.error_median is None else f", error within {_percent(quick.error_median)} (median)"
    return f"{_name(quick)}: {quick.faster.estimate:.1f} times faster than float32{error}"


def _percent(share: float) -> str:
    """Return a share, rounded up to one digit: it says "within"."""
    value = 100 * share
    if value <= 0:
        return "0 %"
    digit = 10.0 ** np.floor(np.log10(value))
    return f"{np.ceil(round(value / digit, 6)) * digit:.3g} %"


def _name(timing: Timing) -> str:
    return f"{timing.candidate}, {timing.threads} thread{'s' if timing.threads > 1 else ''}"


def _count(call: Callable[[], Any]) -> int:
    """Return how many calls fill a round; the first call, which also lays out buffers, is not timed."""
    call()
    once = min(_mean_seconds(call, 1) for _ in range(3))
    return max(1, int(np.ceil(ROUND_SECONDS / max(once, 1e-8))))


def _mean_seconds(call: Callable[[], object], count: int) -> float:
    start = perf_counter()
    for _ in range(count):
        call()
    return (perf_counter() - start) / count
