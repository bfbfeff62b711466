"""The record of a benchmark, and the advice that follows from it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ..bundle.manifest import Fidelity
from ..machine.timing import Interval


class Timing(msgspec.Struct, frozen=True):
    """One candidate at one number of rows a call, in microseconds a call; see docs/bench.md."""

    candidate: str
    precision: str
    threads: int
    rows: int
    p50: float
    p90: float
    p99: float
    rows_per_second: float
    faster: Interval | None
    fidelity: Fidelity | None


class Model(msgspec.Struct, frozen=True):
    """One scorer of the bundle, as a file; see docs/bench.md."""

    artifact: str
    engine: str
    precision: str
    bytes: int
    fidelity: Fidelity
    cold_seconds: float | None
    cold_bytes: int | None
    reason: str | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Results of `bench`, and their JSON; see docs/bench.md."""

    format_version: int = 1
    bundle: str
    machine: dict[str, Any]
    packages: dict[str, str]
    warnings: list[str]
    models: list[Model]
    timings: list[Timing]
    advice: dict[int, str]


def advise(timings: Sequence[Timing]) -> str:
    """Return in one sentence what to use for calls of as many rows as these have.

    Quantization is recommended, and dismissed, only where the interval excludes 1.

    Args:
        timings: of the bundle's own models, all of one number of rows; at least one.
    """
    ranked = sorted(timings, key=lambda timing: timing.p50)
    best, exact = ranked[0], next((timing for timing in ranked if timing.precision == "float32"), None)
    quick = next((timing for timing in ranked if timing.precision != "float32"), None)
    if exact is None or quick is None or quick.faster is None or quick.fidelity is None:
        text = f" alone: there is no {'quantized' if exact else 'float32'} model here to compare with"
    elif quick.faster.low > 1:
        best, moves = quick, quick.fidelity
        text = f": {quick.faster.estimate:.1f} times faster than float32, the error moves by "
        text += f"{moves.error_median:.2%} (median) to {moves.error_p99:.2%} (99th percentile)"
    elif quick.faster.high < 1:
        best, text = exact, f": {quick.precision} does not pay on this CPU"
    else:
        best, text = exact, f": whether {quick.precision} is any faster cannot be told from this run"
    return f"{best.candidate}, {best.threads} thread{'s' * (best.threads > 1)}{text}"
