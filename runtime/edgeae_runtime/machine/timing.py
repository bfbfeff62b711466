"""Calls timed by turns, their ratios and percentiles."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K", bound=Hashable)
Seconds: TypeAlias = NDArray[np.float64]

BLOCK_SECONDS = 0.002
"""Seconds of a candidate's calls in one round: fewer would show its speed out of a cold cache."""
MOST_CALLS = 200
"""Most calls of a candidate in one round."""
LEAST_ROUNDS = 5
"""Least rounds, however long they take."""
RESAMPLES = 2000
"""Bootstrap resamples for an interval."""


class Interval(NamedTuple):
    """An estimate and its 95 % confidence interval."""

    estimate: float
    low: float
    high: float


def interleave(
    candidates: Mapping[K, Callable[[], object]], *, seconds: float, seed: int = 0
) -> dict[K, Seconds]:
    """Call all candidates round by round, each time in another order, so that a disturbance hits all alike.

    Each gets `BLOCK_SECONDS` of a round, at most `MOST_CALLS`, and its first call there, with the caches
    still full of its predecessor's data, is not counted; a slower one is called once.

    Args:
        candidates: what to call.
        seconds: about how long; at least `LEAST_ROUNDS` rounds are made.
        seed: of the order.

    Returns:
        For each candidate the seconds of its calls, (rounds, calls in a round).
    """
    rng = np.random.default_rng(seed)
    counts = {name: _count(call) for name, call in candidates.items()}
    times: dict[K, list[list[float]]] = {name: [] for name in candidates}
    names, end, rounds = list(candidates), time.perf_counter() + seconds, 0
    while names and (rounds < LEAST_ROUNDS or time.perf_counter() < end):
        for index in rng.permutation(len(names)):
            name = names[index]
            call = candidates[name]
            if counts[name] > 1:
                call()
            times[name].append([_seconds(call) for _ in range(counts[name])])
        rounds += 1
    return {name: np.array(found) for name, found in times.items()}


def _count(call: Callable[[], object]) -> int:
    """Return how many calls fill a round; the first of all, which also compiles or loads, does not count."""
    if all(_seconds(call) > 100 * BLOCK_SECONDS for _ in range(2)):
        return 1
    once = min(_seconds(call) for _ in range(3))
    return max(1, min(MOST_CALLS, int(BLOCK_SECONDS / once)))


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratio(times_a: Seconds, times_b: Seconds, *, seed: int = 0) -> Interval:
    """Return the ratio of two candidates' medians over rounds of their medians within each, with an interval.

    The percentile bootstrap (Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13). Drawn anew
    are rounds, the same for both: what disturbs one candidate of a round disturbs the other too.

    Args:
        times_a: (rounds, calls), from `interleave`.
        times_b: (rounds, calls), of the same run.
        seed: of the draws.
    """
    a, b = np.median(times_a, axis=1), np.median(times_b, axis=1)
    drawn = np.random.default_rng(seed).integers(0, len(a), (RESAMPLES, len(a)))
    ratios = np.median(a[drawn], axis=1) / np.median(b[drawn], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Interval(float(np.median(a) / np.median(b)), float(low), float(high))


def percentiles(seconds: Seconds) -> tuple[float, float, float]:
    """Return the 50th, 90th and 99th percentile of some seconds, in microseconds."""
    p50, p90, p99 = 1e6 * np.quantile(seconds, (0.5, 0.9, 0.99))
    return float(p50), float(p90), float(p99)
