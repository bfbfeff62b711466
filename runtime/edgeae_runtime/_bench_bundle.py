"""All scorers of a bundle on this machine: engines, threads and rows a call."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any, TypeAlias

import msgspec
import numpy as np

from ._autoencoder import Autoencoder
from ._bench import Interval, Progress, Samples, Timing, advise, measure, percentiles, ratio
from ._bench_machine import Cold, Machine, cold_start, describe, doubts
from ._bundle import Bundle
from ._engines import BATCH_ROWS, ENGINE_FORMATS
from ._errors import EdgeaeError
from ._manifest import Artifact, Fidelity, Floats
from ._verify import check_artifact, load_golden

FORMAT_VERSION = 1
"""Of `Report` as JSON; raised when a field changes its meaning or goes."""

Peers: TypeAlias = Callable[[Floats], Mapping[str, Callable[[], object]]]
"""Takes a batch (n, *shape) in raw units; returns calls that do a scorer's work on it, by name."""

_PACKAGES = ("edgeae-runtime", "onnxruntime", "ai-edge-litert", "numpy", "tensorflow")


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One scorer of the bundle, as a file."""

    artifact: str
    engine: str
    precision: str
    bytes: int
    fidelity: Fidelity
    """The manifest's."""
    cold: Cold | None
    reason: str | None
    """Why it was not measured: not installed, or not right here; None where it was."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `bench` found; what its JSON holds."""

    format_version: int = FORMAT_VERSION
    bundle: str
    machine: Machine
    packages: dict[str, str]
    warnings: list[str]
    """Why the figures may not be what this machine can do."""
    models: list[Model]
    timings: list[Timing]
    """By rows a call; TensorFlow's, where asked for, among them."""
    advice: dict[int, str]
    """A sentence for each number of rows a call."""


def bench(
    bundle: Bundle,
    samples: Floats | None = None,
    *,
    threads: Sequence[int] = (1, 2),
    batches: Sequence[int] = (1, 32, 1024),
    seconds: float = 9.0,
    seed: int = 0,
    peers: Peers | None = None,
    progress: Progress = lambda share: None,
) -> Report:
    """Measure every scorer that runs right here; candidates of as many rows take turns.

    Args:
        bundle: what to measure.
        samples: raw units, (n, *shape), repeated as needed; the bundle's golden inputs by default.
        threads: numbers of threads. They share the rows of a call from `BATCH_ROWS` on, so smaller calls
            are measured with the first number alone.
        batches: numbers of rows a call.
        seconds: for all timings together, besides the cold starts.
        seed: of the candidates' order and the intervals.
        peers: see `load_peers`.
        progress: told which share is done.

    Raises:
        BundleError: the bundle cannot be read.
        EngineError: a model that runs in this process does not in a fresh one.
    """
    before = describe()
    golden = load_golden(bundle)
    rows = golden["input"] if samples is None else samples
    rows = np.ascontiguousarray(rows, np.float32).reshape(-1, *bundle.manifest.input.shape)
    found = [(artifact, *_check(bundle, artifact, golden)) for artifact in _scorers(bundle)]
    held = [(artifact, engine) for artifact, engine, reason in found if reason is None]
    cold = cold_start(bundle.path, [(engine, a.precision) for a, engine in held], rows[0]) if held else {}
    progress(0.3)
    timings: list[Timing] = []
    for number, size in enumerate(batches):
        batch = np.resize(rows, (size, *rows.shape[1:]))
        calls = _calls(bundle, held, threads, batch)
        others = dict(peers(batch)) if peers else {}
        keyed = {str(key): call for key, call in calls.items()} | others
        times = (
            measure(
                keyed,
                seconds=seconds / len(batches),
                seed=seed,
                progress=lambda share, number=number: progress(0.3 + 0.7 * (number + share) / len(batches)),  # type: ignore[misc]
            )
            if keyed
            else {}
        )
        ours = {key: times[str(key)] for key in calls}
        timings += _timings(ours, {name: times[name] for name in others}, held, size, seed)
    return Report(
        bundle=bundle.path.name,
        machine=before,
        packages=_packages(),
        warnings=doubts(before, describe()),
        models=[
            Model(
                artifact=artifact.path,
                engine=engine,
                precision=artifact.precision,
                bytes=artifact.bytes,
                fidelity=artifact.fidelity,
                cold=cold.get((engine, artifact.precision)),
                reason=reason,
            )
            for artifact, engine, reason in found
        ],
        timings=timings,
        advice=_advice(timings),
    )


def load_peers(model: str, bundle: Bundle) -> Peers:
    """Return TensorFlow's ways to do a scorer's work, from the distribution that has them.

    Args:
        model: a ``.keras`` file or a run folder.
        bundle: made from it.

    Raises:
        EdgeaeError: TensorFlow is not installed here, or the model cannot be used.
    """
    found = next(iter(entry_points(group="edgeae.bench")), None)
    if found is None:
        raise EdgeaeError("--against needs TensorFlow, which is not installed here; pip install edgeae")
    peers: Peers = found.load()(model, bundle.manifest)
    return peers


_Key: TypeAlias = tuple[str, str, int]  # engine, precision, threads


def _scorers(bundle: Bundle) -> list[Artifact]:
    formats = ENGINE_FORMATS.values()
    return [a for a in bundle.manifest.artifacts if a.role == "scorer" and a.format in formats]


def _check(bundle: Bundle, artifact: Artifact, golden: dict[str, Any]) -> tuple[str, str | None]:
    """Return an artifact's engine, and why it is not to be measured."""
    engine = next(name for name, kind in ENGINE_FORMATS.items() if kind == artifact.format)
    check, loaded = check_artifact(bundle, artifact, golden)
    return engine, None if loaded is not None else check.detail


def _calls(
    bundle: Bundle, held: list[tuple[Artifact, str]], threads: Sequence[int], batch: Floats
) -> dict[_Key, Callable[[], object]]:
    samples = batch[0] if len(batch) == 1 else batch
    used = threads if len(batch) > BATCH_ROWS else threads[:1]
    return {
        (engine, artifact.precision, count): partial(
            Autoencoder(bundle, engine, artifact.precision, threads=count).detect, samples
        )
        for artifact, engine in held
        for count in used
    }


def _timings(
    ours: Mapping[_Key, Samples],
    others: Mapping[str, Samples],
    held: list[tuple[Artifact, str]],
    rows: int,
    seed: int,
) -> list[Timing]:
    """Make a line of each candidate, compared with the fastest of ours in float32."""
    exact = [found.rounds for key, found in ours.items() if key[1] == "float32"]
    base = min(exact, key=np.median, default=None)
    errors = {(engine, str(a.precision)): a.fidelity.error_median for a, engine in held}

    def timing(name: str, precision: str, threads: int, found: Samples, error: float | None) -> Timing:
        p50, p90, p99 = percentiles(found.calls)
        return Timing(
            candidate=name,
            precision=precision,
            threads=threads,
            rows=rows,
            p50=p50,
            p90=p90,
            p99=p99,
            rows_per_second=rows / float(np.median(found.rounds)),
            faster=None if base is None else Interval(*ratio(base, found.rounds, seed=seed)),
            error_median=error,
        )

    lines = [
        timing(f"{engine} {precision}", precision, threads, found, errors[engine, precision])
        for (engine, precision, threads), found in ours.items()
    ]
    return lines + [timing(name, "float32", 0, found, None) for name, found in others.items()]


def _advice(timings: Sequence[Timing]) -> dict[int, str]:
    """Return a sentence for each number of rows; TensorFlow, which has no fidelity here, gives none."""
    ours: dict[int, list[Timing]] = {}
    for timing in timings:
        if timing.error_median is not None:
            ours.setdefault(timing.rows, []).append(timing)
    return {rows: advise(lines) for rows, lines in ours.items()}


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
