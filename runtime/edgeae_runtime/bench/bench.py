"""What the scorers of a bundle cost on this machine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import distributions
from typing import TypeAlias

import numpy as np

from ..autoencoder import Autoencoder
from ..bundle.archive import Bundle
from ..bundle.manifest import Fidelity, Floats
from ..engines.base import BATCH_ROWS
from ..engines.golden import check_artifact, load_golden
from ..machine.host import caveats, describe
from ..machine.timing import Seconds, interleave, percentiles, ratio
from ..names import ENGINE_FORMATS
from .cold import cold_starts
from .report import Model, Report, Timing, advise

Peers: TypeAlias = Callable[[Floats], Mapping[str, Callable[[], object]]]
"""Takes a batch (n, *shape) in raw units; returns calls that do a scorer's work on it, by name."""
_Candidate: TypeAlias = tuple[str, str, int, Fidelity | None]

_PACKAGES = ("edgeae-runtime", "onnxruntime", "ai-edge-litert", "numpy", "tensorflow")


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
