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
from ..engines.registry import ENGINES, engines_here
from ..machine.host import caveats, describe
from ..machine.timing import Seconds, interleave, percentiles, ratio
from .cold import cold_starts
from .report import Model, Report, Timing, advise

Peers: TypeAlias = Callable[[Floats], Mapping[str, Callable[[], object]]]
"""Takes a batch (n, *shape) in raw units; returns calls that do a scorer's work on it, by name."""
_Candidate: TypeAlias = tuple[str, str, int, Fidelity | None]

_PACKAGES = ("edgeae-runtime", *(record.distribution for record in ENGINES), "numpy", "tensorflow")


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
    here = engines_here()
    scorers = [
        (record.name, artifact)
        for artifact in bundle.manifest.artifacts
        for record in here
        if artifact.role == "scorer" and artifact.format in record.formats
    ]
    checks = [check_artifact(bundle, artifact, engine, golden) for engine, artifact in scorers]
    right = [scorer for scorer, (_, loaded) in zip(scorers, checks, strict=True) if loaded is not None]
    pairs = [(engine, artifact.precision) for engine, artifact in right]
    cold = dict(zip(pairs, cold_starts(bundle.path, pairs, rows[0]), strict=True))
    progress()
    timings: list[Timing] = []
    for size in batches:
        batch = np.resize(rows, (size, *rows.shape[1:]))
        calls: dict[_Candidate, Callable[[], object]] = {}
        for engine, artifact in right:
            precision = artifact.precision
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
                engine,
                a.precision,
                a.bytes,
                a.fidelity,
                *cold.get((engine, a.precision), (None, None, check.detail)),
            )
            for (engine, a), (check, _) in zip(scorers, checks, strict=True)
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
