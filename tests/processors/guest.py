"""What a device does with bundles; run alike on this machine and on an emulated one.

``python guest.py FOLDER OUT`` opens every bundle of FOLDER with every engine and precision, runs its ``.npy``
through the library, through a stream and through the commands, verifies it, and keeps in OUT/results.npz what
they said; of candidates, what each makes of the rows.
"""

import contextlib
import io
import json
import os
import platform
import sys
from pathlib import Path

import numpy as np

from edgeae_runtime import Bundle, load, windows
from edgeae_runtime.cli.main import main
from edgeae_runtime.engines.base import run_batches
from edgeae_runtime.engines.registry import load_engine

ENGINES = {"onnxruntime": "onnx", "litert": "tflite"}


def run(bundle: Path, engine: str, precision: str, out: Path) -> dict[str, np.ndarray]:
    """Return everything that a bundle says of its data, by the way it was asked."""
    data = np.load(bundle.with_suffix(".npy"))
    ae = load(bundle, engine=engine, precision=precision)
    window = ae.manifest.input.window
    samples = data if window is None else windows(data, window)
    found = ae.detect(samples)
    single = [ae.detect(sample) for sample in samples]
    said = {
        "detect.error": found.error,
        "detect.embedding": found.embedding,
        "single.error": np.array([one.error for one in single]),
        "single.embedding": np.array([one.embedding for one in single]),
        "decode.reconstruction": ae.decode(found.embedding),
    }
    stream = ae.stream()
    pushed = [result for reading in data if (result := stream.push(reading)) is not None]
    assert [result.sequence for result in pushed] == list(range(1, len(samples) + 1))
    said["stream.error"] = np.array([result.error for result in pushed])
    said["stream.embedding"] = np.array([result.embedding for result in pushed])
    for command, tensor in (("score", "error"), ("embed", "embedding")):
        written = out / f"{bundle.stem}.{engine}.{precision}.{command}.npy"
        chosen = ["--engine", engine, "--precision", precision, "-o", str(written)]
        main([command, str(bundle), str(bundle.with_suffix(".npy")), *chosen], standalone_mode=False)
        said[f"{command}.{tensor}"] = np.load(written)
    return said


def verify(bundle: Path) -> list[str]:
    """Return what ``edgeae verify`` finds of each file, with each engine."""
    printed = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(printed)) as out:
        main(["verify", str(bundle), "--json"], standalone_mode=False)
        out.flush()
    checks = json.loads(printed.getvalue())
    return [f"{check['artifact']} {check['engine']} {check['status']}" for check in checks]


def choose(bundle: Path, out: Path) -> np.ndarray:
    """Return what ``edgeae score`` says with the pair that ``auto`` measured to be the fastest."""
    os.environ.pop("EDGEAE_TUNE", None)
    written = out / "auto.npy"
    main(["score", str(bundle), str(bundle.with_suffix(".npy")), "-o", str(written)], standalone_mode=False)
    return np.load(written)


def run_candidates(folder: Path) -> dict[str, np.ndarray]:
    """Return each candidate's outputs for the rows beside it."""
    rows, said = np.load(folder / "rows.npy"), {}
    for path in sorted({*folder.iterdir()} - {folder / "rows.npy", folder / "keras.npz"}):
        _, precision, kind = path.name.split(".")
        name = next(name for name, format_ in ENGINES.items() if format_ == kind)
        engine = load_engine(name, path.read_bytes(), "scorer", 1)
        embedding, error = run_batches(engine, rows.reshape(-1, *engine.shape), precision, kind)
        said |= {f"{folder.name}/{path.name}/embedding": embedding, f"{folder.name}/{path.name}/error": error}
    return said


def run_all(folder: Path, out: Path) -> None:
    """Run all bundles and candidates of a folder; write ``results.npz``."""
    results = {"machine": np.array(platform.machine())}
    for bundle in sorted(folder.glob("*.edgeae")):
        held = {(a.format, a.precision) for a in Bundle(bundle).manifest.artifacts if a.role == "scorer"}
        for engine, kind in ENGINES.items():
            for precision in sorted(p for k, p in held if k == kind):
                said = run(bundle, engine, precision, out)
                results |= {f"{bundle.stem}/{engine}/{precision}/{name}": v for name, v in said.items()}
        results[f"verify {bundle.stem}"] = np.array(verify(bundle))
    for candidates in sorted(folder.glob("*.candidates")):
        results |= run_candidates(candidates)
    results["auto"] = choose(folder / "dense.edgeae", out)
    np.savez(out / "results.npz", **results)


if __name__ == "__main__":
    run_all(Path(sys.argv[1]), Path(sys.argv[2]))
