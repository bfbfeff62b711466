"""One row, a row's embedding, and 10,000 rows: ours and the peers, interleaved in one process."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import peers
from convert import convert_all
from models import SEED, Made, opened

import edgeae_runtime
from edgeae_runtime.machine.timing import interleave, ratio

MANY = 10_000
TOLERANCE = 1e-4
"""Of the median change of a float32 peer's error against ours."""
OURS = {
    "ours_auto": ("auto", "auto"),
    "ours_onnxruntime": ("onnxruntime", "auto"),
    "ours_onnxruntime_float32": ("onnxruntime", "float32"),
    "ours_onnxruntime_int8": ("onnxruntime", "int8"),
    "ours_litert_float32": ("litert", "float32"),
    "ours_litert_int8": ("litert", "int8"),
    "ours_openvino_float32": ("openvino", "float32"),
    "ours_openvino_int8": ("openvino", "int8"),
}
"""Engine and precision as `edgeae_runtime.load` takes them."""


def measure(name: str, cache: Path, *, quick: bool) -> dict[str, Any]:
    """Return everything about one model's latency."""
    made = opened(name, cache)
    rows = made.rows[:MANY]
    one = np.ascontiguousarray(rows[:1])
    many = np.ascontiguousarray(np.resize(rows, (MANY, *rows.shape[1:])))
    _limit_tensorflow()
    left_out = convert_all(name, cache)
    names = [peer for peer in peers.PEERS if peer not in left_out]
    fidelity = _fidelity(made, names, rows)
    seconds = 2.0 if quick else 12.0
    resolved = {key: _resolved(made, key, 1) for key in OURS}
    score, embed = _candidates(made, names, one, 1)
    batch, _ = _candidates(made, names, many, 2)
    return {
        "left_out": left_out,
        "fidelity": fidelity,
        "resolved": resolved,
        "resolved_many": {key: _resolved(made, key, 2, MANY) for key in OURS},
        "one": _timed(score, seconds),
        "embed": _timed(embed, seconds / 2),
        "many": _timed(batch, seconds),
    }


def _limit_tensorflow() -> None:
    """Give TensorFlow as many threads as the machine has cores, and no more to wait on."""
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(os.cpu_count() or 1)


def _load(made: Made, key: str, threads: int, rows: int = 1) -> edgeae_runtime.Autoencoder:
    engine, precision = OURS[key]
    return edgeae_runtime.load(made.bundle, engine=engine, precision=precision, threads=threads, rows=rows)  # type: ignore[arg-type]


def _resolved(made: Made, key: str, threads: int, rows: int = 1) -> list[str]:
    ae = _load(made, key, threads, rows)
    return [ae.engine, ae.precision]


def _fidelity(made: Made, names: list[str], rows: Any) -> dict[str, float]:
    """Return the median relative change of each candidate's error against our float32.

    Raises:
        ValueError: a float32 peer does not compute the same.
    """
    expected = _load(made, "ours_onnxruntime_float32", 1).detect(rows).error.astype(np.float64)
    found = {}
    for key in OURS:
        found[key] = _load(made, key, 1).detect(rows).error
    for name in names:
        found[name] = peers.load(name, made.folder, 1).score(rows)[1]
    changes = {key: float(np.median(np.abs(error - expected) / expected)) for key, error in found.items()}
    for name in names:
        if name != "pca" and not name.endswith("int8") and not changes[name] <= TOLERANCE:
            raise ValueError(f"{made.name}: the error of {name} differs from ours by {changes[name]:.2%}")
    return changes


def _candidates(
    made: Made, names: list[str], rows: Any, threads: int
) -> tuple[dict[str, Callable[[], Any]], dict[str, Callable[[], Any]]]:
    """Return calls that give embedding and error, and calls that give the embedding."""
    score: dict[str, Callable[[], Any]] = {}
    embed: dict[str, Callable[[], Any]] = {}
    for key in OURS:
        ae = _load(made, key, threads, len(rows))
        samples = rows[0] if len(rows) == 1 else rows  # the peers' engines want a batch of one, ours does not
        score[key], embed[key] = partial(ae.detect, samples), partial(ae.embed, samples)
    for name in names:
        peer = peers.load(name, made.folder, threads)
        score[name], embed[name] = partial(peer.score, rows), partial(peer.embed, rows)
    return score, embed


def _timed(candidates: dict[str, Callable[[], Any]], seconds: float) -> dict[str, Any]:
    """Return seconds per call, and ours against each other candidate with a 95 % interval."""
    times = interleave(candidates, seconds=seconds, seed=SEED)
    quantiles = {
        name: {q: float(np.quantile(values, float(q[1:]) / 100)) for q in ("p50", "p90", "p99")}
        for name, values in times.items()
    }
    ratios = {
        ours: {name: _interval(times[ours], times[name]) for name in times if name != ours}
        for ours in ("ours_auto", "ours_onnxruntime")
    }
    return {"seconds": quantiles, "ratios": ratios, "calls": {name: t.size for name, t in times.items()}}


def _interval(ours: Any, other: Any) -> list[float]:
    """Return the ratio of the medians, and the ends of its interval."""
    found = ratio(ours, other, seed=SEED)
    return [found.estimate, found.low, found.high]
