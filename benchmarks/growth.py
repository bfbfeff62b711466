"""How latency and memory of ours grow: with input width, code size, depth, rows a call, and threads.

The networks are not trained but written down: each is exact principal components, carried through its
ReLU layers as pairs of the positive and the negative part, on data of that many dimensions and noise. Up to
4,096 values the recipe is ``compensated``; its rounding inverts a matrix of width x width, which takes six
minutes at 16,384, so that beyond it is ``plain``. The gate is open here: what int8 moves the error by is on
record.

``python growth.py BUNDLE ENGINE PRECISION THREADS ROWS SECONDS`` measures one in a fresh process.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SEED = 0
HIDDEN, LATENT = 128, 32
WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
LATENTS = (2, 8, 32, 128, 512)
WIDEST_COMPENSATED = 4096
DEPTHS = (1, 2, 4, 8, 16)
ROWS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
THREADS = (1, 2)
ENGINES = ("onnxruntime", "litert")
PRECISIONS = ("float32", "int8")
NAMED = {"onnxruntime": "onnx", "litert": "tflite"}


def build(width: int, latent: int = LATENT, depth: int = 1, hidden: int = HIDDEN) -> tuple[Any, Any]:
    """Return encoder and decoder, with ``depth`` hidden layers of ``hidden`` units each, and samples.

    Args:
        width: values in a sample.
        latent: values in the code, at most half of ``hidden``.
        depth: hidden layers of the encoder, and of the decoder.
        hidden: units of each.

    Returns:
        The two Keras models, and samples (n, width), whose values have a standard deviation of about 1.
    """
    import keras

    rng = np.random.default_rng(SEED)
    rank = min(latent, width // 2)
    basis = np.linalg.qr(rng.normal(size=(width, rank)))[0]
    count = max(200, min(2_000, 8_000_000 // width))
    causes = rng.normal(size=(count, rank)) * np.sqrt(width / rank)
    samples = causes @ basis.T
    samples += 0.3 * rng.gamma(4, 0.25, size=(len(samples), 1)) * rng.normal(size=samples.shape)
    basis = np.pad(basis, ((0, 0), (0, latent - rank)))

    def network(given: int, last: int, enter: Any, leave: Any, name: str) -> Any:
        inputs = values = keras.Input((given,), name=f"{name}_input")
        layers = [keras.layers.Dense(hidden, "relu") for _ in range(depth)] + [keras.layers.Dense(last)]
        for layer in layers:
            values = layer(values)
        keep = np.zeros((hidden, hidden))
        keep[: 2 * latent, : 2 * latent] = np.eye(2 * latent)
        first = np.pad(np.hstack([enter, -enter]), ((0, 0), (0, hidden - 2 * latent)))
        final = np.pad(np.vstack([leave, -leave]), ((0, hidden - 2 * latent), (0, 0)))
        for layer, kernel in zip(layers, [first, *[keep] * (depth - 1), final], strict=True):
            if kernel is keep:  # equal kernels would be stored once, and what is shared is not quantized
                kernel = keep.copy()
                kernel[2 * latent :, 2 * latent :] = rng.normal(size=(hidden - 2 * latent,) * 2) / hidden
            # not quite zero: a bias of zeros is dropped, and that makes other nodes than a trained one's
            layer.set_weights([kernel, 1e-4 * rng.normal(size=kernel.shape[1])])
        return keras.Model(inputs, values, name=name)

    encoder = network(width, latent, basis, np.eye(latent), "encoder")
    decoder = network(latent, width, np.eye(latent), basis.T, "decoder")
    return (encoder, decoder), samples.astype(np.float32)


def export(path: Path, width: int, **options: int) -> dict[str, Any]:
    """Export such a network; return what it weighs and what its int8 costs in fidelity."""
    import edgeae_export

    pair, samples = build(width, **options)
    start = time.perf_counter()
    recipe = "compensated" if width <= WIDEST_COMPENSATED else "plain"
    open_gate = edgeae_export.Limits(error_median=np.inf, rank_correlation=-1, embedding_cosine=-1)
    limits = {"int8": open_gate, "float32": open_gate}
    manifest = edgeae_export.export(pair, samples, path, recipe=recipe, limits=limits, force=True)
    scorers = [a for a in manifest.artifacts if a.role == "scorer"]
    return {
        "parameters": sum(int(model.count_params()) for model in pair),
        "export_s": time.perf_counter() - start,
        "bytes": {a.path: a.bytes for a in scorers},
        "error_median": {a.path: a.fidelity.error_median for a in scorers},
    }


def measure(cache: Path, *, quick: bool) -> dict[str, Any]:
    """Return the series, each a list of points."""
    seconds = 0.1 if quick else 0.5
    every = slice(None, None, 4 if quick else 1)
    plans = {
        "width": [({"width": w}, w) for w in WIDTHS[every]],
        "latent": [({"width": 784, "latent": z, "hidden": 1024}, z) for z in LATENTS[every]],
        "depth": [({"width": 784, "depth": d}, d) for d in DEPTHS[every]],
    }
    found: dict[str, Any] = {}
    for series, points in plans.items():
        found[series] = []
        for options, x in points:
            bundle = cache / f"{series}-{x}.edgeae"
            made = export(bundle, **options)
            found[series].append({"x": x, **made, "runs": _runs(bundle, seconds, made["bytes"])})
    bundle = cache / "dense" / "bundle.edgeae"
    held = [f"scorer.{p}.{NAMED[e]}" for e in ENGINES for p in PRECISIONS]
    found["rows"] = [
        {"x": n, "runs": {t: _runs(bundle, seconds, held, threads=t, rows=n) for t in THREADS}}
        for n in ROWS[every]
    ]
    return found


def _runs(bundle: Path, seconds: float, held: Any, *, threads: int = 1, rows: int = 1) -> dict[str, Any]:
    """Measure each engine and precision that the bundle holds, one fresh process each."""
    found = {}
    for engine in ENGINES:
        for precision in PRECISIONS:
            if f"scorer.{precision}.{NAMED[engine]}" in held:
                arguments = [str(bundle), engine, precision, str(threads), str(rows), str(seconds)]
                command = [sys.executable, str(HERE / "growth.py"), *arguments]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found[f"{engine} {precision}"] = json.loads(done.stdout)
    return found


def _one(
    bundle: str, engine: str, precision: str, threads: int, rows: int, seconds: float
) -> dict[str, float]:
    """Return the median seconds of a call and the bytes that are resident after it."""
    from cold import memory

    import edgeae_runtime

    ae = edgeae_runtime.load(bundle, engine=engine, precision=precision, threads=threads, rows=rows)  # type: ignore[arg-type]
    # noise, which is as dear to score as data
    batch = np.random.default_rng(SEED).normal(size=(rows, *ae.manifest.input.shape)).astype(np.float32)
    batch = batch[0] if rows == 1 else batch
    times = []
    ae.detect(batch)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        ae.detect(batch)
        times.append(time.perf_counter() - start)
    return {"p50": float(np.median(times)), "resident": memory()[0]}


if __name__ == "__main__":
    path, engine, precision, threads, rows, seconds = sys.argv[1:]
    print(json.dumps(_one(path, engine, precision, int(threads), int(rows), float(seconds))))
