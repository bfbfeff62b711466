"""Instructions per score on a Pi 4's and a Pi 5's processor, ours and by hand: exact, wherever it is counted.

``python benchmarks/instructions.py`` counts under qemu and writes instructions.json beside this file;
``--check`` compares with that file instead and fails where something of ours rose by more than 3 %.
"""

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "processors"))

import emulator  # noqa: E402  # needs the line above

IMAGES = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
KEPT = HERE / "instructions.json"
ALLOWED_RISE = 1.03
GAIN = 1 / 255
BARE = "bare autoencoder, litert's own calls, int8"
OURS = "edgeae "
MODELS: dict[str, tuple[int, tuple[int, ...], int, bool]] = {
    # size, hidden units of the encoder, code, BatchNorm and ReLU as in MLPerf Tiny's anomaly detector
    "dense 784-128-32-128-784": (784, (128,), 32, False),
    "MLPerf Tiny 640-4x128-8-4x128-640": (640, (128,) * 4, 8, True),
}


def build(name: str) -> tuple[Any, Any]:
    """Return a Keras encoder and decoder. Weights hardly matter to the count, so training is short."""
    import keras
    from keras import layers

    size, hidden, latent, normalized = MODELS[name]

    def block(units: int, activation: str | None) -> list[Any]:
        if not normalized:
            return [layers.Dense(units, activation=activation)]
        return [layers.Dense(units), layers.BatchNormalization(), layers.ReLU()]

    keras.utils.set_random_seed(0)
    down = [layer for units in hidden for layer in block(units, "relu")] + block(latent, None)
    up = [layer for units in reversed(hidden) for layer in block(units, "relu")] + [layers.Dense(size)]
    encoder = keras.Sequential([keras.Input((size,)), *down])
    decoder = keras.Sequential([keras.Input((latent,)), *up])
    return encoder, decoder


def rows_of(size: int) -> Any:
    """Return images of clothes, 0 to 255, as many pixels of each as the model takes, (2000, size)."""
    with gzip.open(IMAGES) as file:
        pixels = np.frombuffer(file.read(16 + 2000 * 784), np.uint8, offset=16)
    return np.ascontiguousarray(pixels.reshape(2000, 784)[:, :size], np.float32)


def prepare(name: str, folder: Path) -> None:
    """Write our bundle of a model, and what people make of it by hand."""
    import keras

    from edgeae_export import export
    from edgeae_runtime import Scaler

    encoder, decoder = build(name)
    rows = rows_of(encoder.input_shape[1])
    model = keras.Sequential([encoder, decoder])
    model.compile("adam", "mse")
    model.fit(rows[400:] * GAIN, rows[400:] * GAIN, epochs=8, batch_size=32, verbose=0)
    scaler = Scaler(kind="minmax", offset=(0.0,), gain=(GAIN,))
    export((encoder, decoder), rows[:400], folder / "ours.edgeae", scaler=scaler)
    np.save(folder / "row.npy", rows[:1])
    np.save(folder / "gain.npy", GAIN)
    scaled = rows[:200] * np.float32(GAIN)
    export((encoder, decoder), scaled, folder / "unscaled.edgeae", precisions=("float32",))
    codes = encoder.predict(scaled, verbose=0)
    for part, network, values in (("encoder", encoder, scaled), ("decoder", decoder, codes)):
        _onnx_by_hand(folder, part, values)
        _tflite_by_hand(folder, part, network, values)
    _tflite_by_hand(folder, "autoencoder", model, scaled)


def _onnx_by_hand(folder: Path, part: str, values: Any) -> None:
    """Quantize with ONNX Runtime's tool, per channel and calibrated, all else as it comes."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    name = "input" if part == "encoder" else "embedding"

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows: Iterator[Any] = iter(values[:, np.newaxis])

        def get_next(self) -> dict[str, Any] | None:
            row = next(self.rows, None)
            return None if row is None else {name: row}

    plain = folder / f"{part}.float32.onnx"
    plain.write_bytes((folder / "unscaled.edgeae" / plain.name).read_bytes())
    quantize_static(plain, folder / f"{part}.int8.onnx", Reader(), per_channel=True)


def _tflite_by_hand(folder: Path, part: str, network: Any, values: Any) -> None:
    """Convert with TensorFlow's converter: float32, and whole numbers from end to end."""
    import tensorflow as tf

    for precision in ("float32", "int8"):
        converter = tf.lite.TFLiteConverter.from_keras_model(network)
        if precision == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([row[np.newaxis]] for row in values)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        (folder / f"{part}.{precision}.tflite").write_bytes(converter.convert())


def compile_plugin(folder: Path) -> Path:
    """Compile the counting plugin."""
    plugin = folder / "icount.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", plugin, HERE / "icount.c"], check=True)
    return plugin


def count(cpu: str, folder: Path, plugin: Path) -> dict[str, int]:
    """Return the instructions of one call of each case."""
    command = emulator.command(
        cpu,
        HERE / "instructions_guest.py",
        folder,
        paths=(HERE.parent / "runtime",),
        qemu=("-plugin", str(plugin)),
    )
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{cpu}: {done.stderr[-2000:]}")
    told = json.loads(done.stdout)
    marks = [int(n) for n in re.findall(r"^instructions (\d+)$", done.stderr, re.MULTILINE)]
    each = told["windows"] + 1
    if len(marks) != each * len(told["cases"]):
        sys.exit(f"{cpu}: {len(marks)} marks for {len(told['cases'])} cases of {each}")
    found = {}
    for i, case in enumerate(told["cases"]):
        windows = np.diff(marks[i * each : (i + 1) * each])
        found[case] = round(int(windows.min()) / told["calls"])
    return found


def count_all() -> dict[str, dict[str, dict[str, int]]]:
    """Return the counts by model, processor and case."""
    emulator.make()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        plugin = compile_plugin(Path(scratch))
        jobs = {}
        for i, name in enumerate(MODELS):
            folder = Path(scratch, str(i))
            folder.mkdir()
            prepare(name, folder)
            jobs[name] = {cpu: pool.submit(count, cpu, folder, plugin) for cpu in emulator.COUNTED}
        return {name: {cpu: job.result() for cpu, job in of.items()} for name, of in jobs.items()}


def show(counts: dict[str, dict[str, dict[str, int]]]) -> None:
    """Print a table a model, with our cheapest pair beside LiteRT's bare int8 invocation."""
    for name, of in counts.items():
        print(f"{name:54} " + " ".join(f"{cpu:>12}" for cpu in of))
        for case in next(iter(of.values())):
            print(f"  {case:52} " + " ".join(f"{of[cpu][case]:12,}" for cpu in of))
        for cpu, cases in of.items():
            best = min((case for case in cases if case.startswith(OURS)), key=cases.__getitem__)
            print(f"  {cpu}: {best} needs {cases[best] / cases[BARE]:.3f} of LiteRT's bare int8 invocation")


def rises(counts: dict[str, dict[str, dict[str, int]]], kept: dict[str, Any]) -> list[str]:
    """Return what of ours needs more than is allowed, or is not in the kept file."""
    found = []
    for name, of in counts.items():
        for cpu, cases in of.items():
            for case, now in cases.items():
                before = kept.get(name, {}).get(cpu, {}).get(case)
                if case.startswith("our scorer") or case.startswith(OURS):
                    if before is None:
                        found.append(f"{name}, {cpu}, {case}: not in {KEPT.name}")
                    elif now > before * ALLOWED_RISE:
                        found.append(f"{name}, {cpu}, {case}: {before:,} before, {now:,} now")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the kept file, write nothing")
    check = parser.parse_args().check
    counts = count_all()
    show(counts)
    if not check:
        KEPT.write_text(json.dumps(counts, indent=2) + "\n")
    elif found := rises(counts, json.loads(KEPT.read_text())):
        sys.exit(f"more instructions than in {KEPT.name}:\n  " + "\n  ".join(found))


if __name__ == "__main__":
    main()
