"""What the scorers of a bundle cost on this machine: candidates timed by turns, and what follows from that."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import distributions, entry_points
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._bundle import Bundle
from ._engines import BATCH_ROWS, ENGINE_FORMATS
from ._errors import EdgeaeError
from ._manifest import Fidelity, Floats

K = TypeVar("K", bound=Hashable)
Peers: TypeAlias = Callable[[Floats], Mapping[str, Callable[[], object]]]
"""Takes a batch (n, *shape) in raw units; returns calls that do a scorer's work on it, by name."""

BLOCK_SECONDS = 0.002
"""What a candidate's calls of one round take: fewer would show its speed out of a cold cache."""
MOST_CALLS = 200
LEAST_ROUNDS = 5
RESAMPLES = 2000
COLD_STARTS = 3
HOT = 80.0
"""Degrees Celsius from which a Raspberry Pi slows down."""

_PACKAGES = ("edgeae-runtime", "onnxruntime", "ai-edge-litert", "numpy", "tensorflow")
_TROUBLES = ("too low a voltage", "a capped frequency", "throttling", "the soft limit of temperature")
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


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate at one number of rows a call, beside the fastest float32 model of the bundle."""

    candidate: str
    """``ENGINE PRECISION``, or a way to call TensorFlow."""
    precision: str
    threads: int
    """0 for TensorFlow, which chooses."""
    rows: int
    """In each call."""
    p50: float
    """Microseconds per call, as `p90` and `p99`."""
    p90: float
    p99: float
    rows_per_second: float
    faster: Interval | None
    """How many times as fast as the bundle's fastest float32 model at as many rows; None without one."""
    fidelity: Fidelity | None
    """The manifest's; None for TensorFlow."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One scorer of the bundle, as a file."""

    artifact: str
    engine: str
    precision: str
    bytes: int
    fidelity: Fidelity
    """The manifest's."""
    cold_seconds: float | None
    """From the start of a fresh process to its first score; median of `COLD_STARTS`."""
    cold_bytes: int | None
    """Resident in memory then."""
    reason: str | None
    """Why something is missing: not installed, not right here, or not to be run in a fresh process."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What may explain a measurement; None or empty where the machine does not tell."""

    processor: str
    cores: int
    """That this process may use."""
    system: str
    load: float
    """Processes that were running, mean of a minute, before the measurement."""
    governors: tuple[str, ...]
    """Of CPU frequency, each named once."""
    temperature: float | None
    """Of the hottest zone, in degrees Celsius."""
    throttled: int | None
    """The bits of a Raspberry Pi's ``vcgencmd get_throttled``; 0 is fine."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `bench` found; what its JSON holds."""

    format_version: int = 1
    """Raised when a field changes its meaning or goes."""
    bundle: str
    machine: Machine
    packages: dict[str, str]
    """Versions of what is installed."""
    warnings: list[str]
    """Why the figures may not be what this machine can do."""
    models: list[Model]
    timings: list[Timing]
    advice: dict[int, str]
    """A sentence for each number of rows a call."""


def interleave(
    candidates: Mapping[K, Callable[[], object]], *, seconds: float, seed: int = 0
) -> dict[K, NDArray[np.float64]]:
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
    while rounds < LEAST_ROUNDS or time.perf_counter() < end:
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


def ratio(times_a: ArrayLike, times_b: ArrayLike, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Return the ratio of two candidates' medians over rounds of their medians within each, with an interval.

    The percentile bootstrap (Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13). Drawn anew
    are rounds, the same for both: what disturbs one candidate of a round disturbs the other too.

    Args:
        times_a: (rounds, calls), from `interleave`.
        times_b: (rounds, calls), of the same run.
        level: of the interval.
        seed: of the draws.
    """
    a, b = np.median(times_a, axis=1), np.median(times_b, axis=1)
    drawn = np.random.default_rng(seed).integers(0, len(a), (RESAMPLES, len(a)))
    ratios = np.median(a[drawn], axis=1) / np.median(b[drawn], axis=1)
    low, high = np.quantile(ratios, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(np.median(a) / np.median(b)), float(low), float(high))


def percentiles(seconds: ArrayLike) -> tuple[float, float, float]:
    """Return the 50th, 90th and 99th percentile of some seconds, in microseconds."""
    p50, p90, p99 = (1e6 * np.quantile(seconds, (0.5, 0.9, 0.99))).tolist()
    return p50, p90, p99


def advise(timings: Sequence[Timing]) -> str:
    """Return in one sentence what to use for calls of as many rows as these have.

    Quantization is recommended, and dismissed, only where the interval excludes 1.

    Args:
        timings: of the bundle's own models, all of one number of rows; at least one.
    """

    def told(timing: Timing, text: str) -> str:
        return f"{timing.candidate}, {timing.threads} thread{'s' * (timing.threads > 1)}{text}"

    ranked = sorted(timings, key=lambda timing: timing.p50)
    exact = next((timing for timing in ranked if timing.precision == "float32"), None)
    quick = next((timing for timing in ranked if timing.precision != "float32"), None)
    if exact is None or quick is None or quick.faster is None or quick.fidelity is None:
        missing = "float32" if exact is None else "quantized"
        return told(ranked[0], f"; the bundle has no {missing} model that runs here")
    faster, moves = quick.faster, quick.fidelity
    if faster.high < 1:
        slower = 1 / faster.estimate
        return told(exact, f": {quick.precision} does not pay on this CPU ({slower:.1f} times slower)")
    if faster.low <= 1:
        return told(exact, f": whether {quick.precision} is any faster cannot be told from this run")
    changes = f"{moves.error_median:.2%} in the median, {moves.error_p99:.2%} at the 99th percentile"
    return told(quick, f": {faster.estimate:.1f} times faster than float32, the error moves by {changes}")


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
        threads: numbers of threads. They share the rows of a call from `BATCH_ROWS` on, so smaller calls
            are measured with the first number alone.
        batches: numbers of rows a call.
        seconds: for all timings together, besides the cold starts.
        peers: see `load_peers`.
        progress: told when the cold starts, and each number of rows, are done.

    Raises:
        BundleError: the bundle cannot be read.
    """
    from ._autoencoder import Autoencoder
    from ._verify import check_artifact, load_golden

    machine, golden = describe(), load_golden(bundle)
    rows = np.ascontiguousarray(golden["input"], np.float32).reshape(-1, *bundle.manifest.input.shape)
    engines = {kind: engine for engine, kind in ENGINE_FORMATS.items()}
    scorers = [a for a in bundle.manifest.artifacts if a.role == "scorer" and a.format in engines]
    checks = [check_artifact(bundle, artifact, golden) for artifact in scorers]
    right = [a for a, (_, loaded) in zip(scorers, checks, strict=True) if loaded is not None]
    colds = cold_starts(bundle.path, [(engines[a.format], a.precision) for a in right], rows[0])
    cold = {a.path: found for a, found in zip(right, colds, strict=True)}
    models = [
        Model(
            artifact=artifact.path,
            engine=engines[artifact.format],
            precision=artifact.precision,
            bytes=artifact.bytes,
            fidelity=artifact.fidelity,
            **cold.get(artifact.path, {"cold_seconds": None, "cold_bytes": None, "reason": check.detail}),
        )
        for artifact, (check, _) in zip(scorers, checks, strict=True)
    ]
    progress()
    timings: list[Timing] = []
    advice: dict[int, str] = {}
    for size in batches:
        batch = np.resize(rows, (size, *rows.shape[1:]))
        kinds: dict[tuple[str, int], tuple[str, Fidelity | None]] = {}
        calls: dict[tuple[str, int], Callable[[], object]] = {}
        for artifact in right:
            for count in threads if size > BATCH_ROWS else threads[:1]:
                engine = engines[artifact.format]
                key = f"{engine} {artifact.precision}", count
                autoencoder = Autoencoder(bundle, engine, artifact.precision, threads=count)
                calls[key] = partial(autoencoder.detect, batch[0] if size == 1 else batch)
                kinds[key] = artifact.precision, artifact.fidelity
        for name, call in (peers(batch) if peers else {}).items():
            calls[name, 0], kinds[name, 0] = call, ("float32", None)
        found = list(_timings(interleave(calls, seconds=seconds / len(batches)), kinds, size) if calls else ())
        timings += found
        if right:
            advice[size] = advise([timing for timing in found if timing.fidelity])
        progress()
    return Report(
        bundle=bundle.path.name,
        machine=machine,
        packages={d.name: d.version for d in distributions() if d.name in _PACKAGES},
        warnings=doubts(machine, describe()),
        models=models,
        timings=timings,
        advice=advice,
    )


def _timings(
    times: Mapping[tuple[str, int], NDArray[np.float64]],
    kinds: Mapping[tuple[str, int], tuple[str, Fidelity | None]],
    rows: int,
) -> Iterator[Timing]:
    exact = [found for key, found in times.items() if kinds[key][0] == "float32" and kinds[key][1]]
    base = min(exact, key=np.median, default=None)
    for key, found in times.items():
        p50, p90, p99 = percentiles(found)
        yield Timing(
            candidate=key[0],
            precision=kinds[key][0],
            threads=key[1],
            rows=rows,
            p50=p50,
            p90=p90,
            p99=p99,
            rows_per_second=1e6 * rows / p50,
            faster=None if base is None else ratio(base, found),
            fidelity=kinds[key][1],
        )


def load_peers(model: str, bundle: Bundle) -> Peers:
    """Return TensorFlow's ways to do a scorer's work, from the distribution that has them.

    Args:
        model: a ``.keras`` file or a run folder.
        bundle: made from it.

    Raises:
        EdgeaeError: TensorFlow is not installed here, or the model cannot be used.
    """
    for found in entry_points(group="edgeae.bench"):
        peers: Peers = found.load()(model, bundle.manifest)
        return peers
    raise EdgeaeError("--against needs TensorFlow, which is not installed here; pip install edgeae")


def cold_starts(bundle: Path, candidates: Sequence[tuple[str, str]], row: Floats) -> list[dict[str, Any]]:
    """Start fresh processes by turns, which load an engine and precision and score one row.

    Returns:
        For each candidate the last three fields of a `Model`; the reason is the last line of what a process
        that failed said.
    """

    def start(engine: str, precision: str) -> tuple[float, float] | str:
        command = [sys.executable, "-P", "-c", _COLD, str(bundle), engine, precision, str(time.monotonic())]
        done = subprocess.run(command, input=row.tobytes(), capture_output=True)
        if done.returncode == 0:
            seconds, resident = map(float, done.stdout.split())
            return seconds, resident
        said = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
        return f"a fresh process cannot run it ({said.splitlines()[-1]})"

    rounds = [[start(*pair) for pair in candidates] for _ in range(1 + COLD_STARTS)]
    found: list[dict[str, Any]] = []
    for runs in zip(*rounds[1:], strict=True):  # the first fills the disk's cache
        reason = next((run for run in runs if isinstance(run, str)), None)
        seconds, resident = (None, None) if reason else np.median(runs, axis=0).tolist()
        found.append({"cold_seconds": seconds, "cold_bytes": resident and int(resident), "reason": reason})
    return found


def describe(root: Path = Path("/sys")) -> Machine:
    """Ask the machine.

    Args:
        root: where sysfs is.
    """
    from ._tune import _processor

    governors = {path.read_text().strip() for path in root.glob("devices/system/cpu/cpu*/cpufreq/*_governor")}
    try:
        zones = [int(path.read_text()) / 1000 for path in root.glob("class/thermal/thermal_zone*/temp")]
    except (OSError, ValueError):  # a zone that is switched off
        zones = []
    try:
        command = ["vcgencmd", "get_throttled"]
        answer = subprocess.run(command, capture_output=True, timeout=5).stdout
        throttled = int(answer.partition(b"=")[2], 16)
    except (OSError, ValueError, subprocess.SubprocessError):  # no Raspberry Pi, or not allowed
        throttled = None
    return Machine(
        processor=_processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        system=f"{platform.platform()}, Python {platform.python_version()}",
        load=os.getloadavg()[0],
        governors=tuple(sorted(governors)),
        temperature=max(zones, default=None),
        throttled=throttled,
    )


def doubts(before: Machine, after: Machine) -> list[str]:
    """Return why a measurement between two descriptions may not be what this machine can do."""
    found = []
    if before.load > 0.5 * before.cores:
        found.append(f"other programs were running (load {before.load:.1f} on {before.cores} cores)")
    if slow := [name for name in after.governors if name not in ("performance", "schedutil")]:
        found.append(f"the CPU governor is {', '.join(slow)}; for steady figures set it to performance")
    if after.temperature is not None and after.temperature >= HOT:
        found.append(f"the processor is at {after.temperature:.0f} °C and may slow down")
    bits = after.throttled or 0  # 0 to 3 for now, the same from 16 on for since it was started
    if said := [name for bit, name in enumerate(_TROUBLES) if (bits | bits >> 16) >> bit & 1]:
        found.append(f"since its start the firmware has reported {', '.join(said)}")
    return found
