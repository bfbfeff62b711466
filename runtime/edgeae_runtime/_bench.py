"""What the scorers of a bundle cost on this machine: calls timed by turns, their ratios, fresh processes."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from . import _processor
from ._autoencoder import Autoencoder
from ._bundle import Bundle, check_artifact, load_golden
from ._engines import BATCH_ROWS, ENGINE_FORMATS
from ._manifest import Fidelity, Floats

K = TypeVar("K", bound=Hashable)
Seconds: TypeAlias = NDArray[np.float64]
Peers: TypeAlias = Callable[[Floats], Mapping[str, Callable[[], object]]]
"""Takes a batch (n, *shape) in raw units; returns calls that do a scorer's work on it, by name."""
_Candidate: TypeAlias = tuple[str, str, int, Fidelity | None]

BLOCK_SECONDS = 0.002
"""Seconds of a candidate's calls in one round: fewer would show its speed out of a cold cache."""
MOST_CALLS = 200
"""Most calls of a candidate in one round."""
LEAST_ROUNDS = 5
"""Least rounds, however long they take."""
RESAMPLES = 2000
"""Bootstrap resamples for an interval."""
COLD_STARTS = 3
"""Cold starts of each candidate, besides a first one that fills the disk's cache."""
THROTTLE_CELSIUS = 80.0
"""Temperature in °C from which a Raspberry Pi slows down."""

_PACKAGES = ("edgeae-runtime", "onnxruntime", "ai-edge-litert", "numpy", "tensorflow")
_COLD = """
import sys, time
import numpy, edgeae_runtime
bundle, engine, precision, start = sys.argv[1:]
ae = edgeae_runtime.load(bundle, engine=engine, precision=precision)
ae.detect(numpy.frombuffer(sys.stdin.buffer.read(), "f").reshape(ae.manifest.input.shape))
seconds = time.monotonic() - float(start)
with open("/proc/self/status") as file:
    print(seconds, next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) * 1024)
"""


class Interval(NamedTuple):
    """An estimate and its 95 % confidence interval."""

    estimate: float
    low: float
    high: float


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
    """What `bench` found, and its JSON; see docs/bench.md."""

    format_version: int = 1
    bundle: str
    machine: dict[str, Any]
    packages: dict[str, str]
    warnings: list[str]
    models: list[Model]
    timings: list[Timing]
    advice: dict[int, str]


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
    """Return how many calls fill a round; the first of all, which also lays out buffers, does not count."""
    if _seconds(call) > 100 * BLOCK_SECONDS:
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


def bench(
    bundle: Bundle,
    *,
    threads: Sequence[int] = (1, 2),
    batches: Sequence[int] = (1, 32, 1024),
    seconds: float = 9.0,
    peers: Peers | None = None,
    progress: Callable[[], object] = lambda: None,
) -> Report:
    """Measure every scorer that runs right here on the golden inputs; those of as many rows take turns.

    Args:
        bundle: what to measure.
        threads: they share the rows of a call from `BATCH_ROWS` on; smaller calls take the first number.
        batches: numbers of rows a call.
        seconds: for all timings together, besides the cold starts.
        peers: TensorFlow's ways to do the same.
        progress: called when the cold starts, and each number of rows, are done.

    Raises:
        BundleError: the bundle cannot be read.
    """
    machine, golden = describe(), load_golden(bundle)
    rows = np.ascontiguousarray(golden["input"], np.float32).reshape(-1, *bundle.manifest.input.shape)
    engines = {kind: engine for engine, kind in ENGINE_FORMATS.items()}
    scorers = [a for a in bundle.manifest.artifacts if a.role == "scorer" and a.format in engines]
    checks = [check_artifact(bundle, artifact, golden) for artifact in scorers]
    right = [a for a, (_, loaded) in zip(scorers, checks, strict=True) if loaded is not None]
    colds = cold_starts(bundle.path, [(engines[a.format], a.precision) for a in right], rows[0])
    cold = {artifact.path: found for artifact, found in zip(right, colds, strict=True)}
    progress()
    timings: list[Timing] = []
    for size in batches:
        batch = np.resize(rows, (size, *rows.shape[1:]))
        calls: dict[_Candidate, Callable[[], object]] = {}
        for artifact in right:
            engine, precision = engines[artifact.format], artifact.precision
            for count in threads if size > BATCH_ROWS else threads[:1]:
                run = Autoencoder(bundle, engine, precision, threads=count).detect
                key = f"{engine} {precision}", precision, count, artifact.fidelity
                calls[key] = partial(run, batch[0] if size == 1 else batch)
        for name, call in (peers(batch) if peers else {}).items():
            calls[name, "float32", 0, None] = call
        timings += _timings(interleave(calls, seconds=seconds / len(batches)), size)
        progress()
    return Report(
        bundle=bundle.path.name,
        machine=machine,
        packages={d.name: d.version for d in distributions() if d.name in _PACKAGES},
        warnings=caveats(machine, describe()),
        models=[
            Model(
                a.path,
                engines[a.format],
                a.precision,
                a.bytes,
                a.fidelity,
                *cold.get(a.path, (None, None, check.detail)),
            )
            for a, (check, _) in zip(scorers, checks, strict=True)
        ],
        timings=timings,
        advice={
            size: advise([t for t in timings if t.rows == size and t.fidelity]) for size in batches if right
        },
    )


def _timings(times: Mapping[_Candidate, Seconds], rows: int) -> Iterator[Timing]:
    exact = [found for (_, precision, _, ours), found in times.items() if ours and precision == "float32"]
    base = min(exact, key=np.median, default=None)
    for (name, precision, threads, fidelity), found in times.items():
        p50, p90, p99 = percentiles(found)
        faster = None if base is None else ratio(base, found)
        speed = 1e6 * rows / p50
        yield Timing(name, precision, threads, rows, p50, p90, p99, speed, faster, fidelity)


def cold_starts(
    bundle: Path, candidates: Sequence[tuple[str, str]], row: Floats
) -> list[tuple[float | None, int | None, str | None]]:
    """Start fresh processes by turns, which load an engine and precision and score one row.

    Returns:
        Of each candidate the median of the seconds to the score and of the bytes resident then, or why not.
    """
    runs: list[list[list[float] | str]] = [[] for _ in candidates]
    for _ in range(1 + COLD_STARTS):
        for found, pair in zip(runs, candidates, strict=True):
            command = [sys.executable, "-P", "-c", _COLD, str(bundle), *pair, str(time.monotonic())]
            done = subprocess.run(command, input=row.tobytes(), capture_output=True)
            output = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
            found.append(
                output.splitlines()[-1] if done.returncode else list(map(float, done.stdout.split()))
            )
    return [_medians(found[1:]) for found in runs]  # the first fills the disk's cache


def _medians(runs: list[list[float] | str]) -> tuple[float | None, int | None, str | None]:
    for run in runs:
        if isinstance(run, str):
            return None, None, f"a fresh process cannot run it ({run})"
    seconds, resident = np.median(np.array(runs), axis=0)
    return float(seconds), int(resident), None


def describe(root: Path = Path("/sys")) -> dict[str, Any]:
    """Return what may explain a measurement: processor, load and so on; see docs/bench.md.

    Args:
        root: where sysfs is.
    """
    governors = {path.read_text().strip() for path in root.glob("devices/system/cpu/cpu*/cpufreq/*_governor")}
    zones: list[float] = []
    for path in root.glob("class/thermal/thermal_zone*/temp"):
        with suppress(OSError, ValueError):  # some are switched off
            zones.append(int(path.read_text()) / 1000)
    throttled = None
    with suppress(OSError, ValueError, subprocess.SubprocessError):  # no Raspberry Pi, or not allowed
        output = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, timeout=5).stdout
        throttled = int(output.partition(b"=")[2], 16)
    return {
        "processor": _processor.make() or platform.machine(),
        "kind": _processor.kind(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.platform()}, Python {platform.python_version()}",
        "load": os.getloadavg()[0],
        "governors": sorted(governors),
        "temperature": max(zones, default=None),
        "throttled": throttled,
    }


def caveats(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return why a measurement between two descriptions may not be what this machine can do."""
    found = []
    if before["load"] > 0.5 * before["cores"]:
        found.append(f"other programs were running (load {before['load']:.1f} on {before['cores']} cores)")
    if slow := [name for name in after["governors"] if name not in ("performance", "schedutil")]:
        found.append(f"the CPU governor is {', '.join(slow)}; for steady figures set it to performance")
    if (after["temperature"] or 0.0) >= THROTTLE_CELSIUS:
        found.append(f"the processor is at {after['temperature']:.0f} °C and may slow down")
    if after["throttled"]:
        text = "too low a voltage or throttling, now or since its start"
        found.append(f"the firmware reports {text} (vcgencmd get_throttled: {after['throttled']:#x})")
    return found
