"""What is counted: one row in, embedding and error out, ours and by hand. Runs on the emulated processor.

``python instructions_guest.py MODEL`` prints the names of the cases as JSON; each is called in windows of
CALLS between two marks of the counting plugin.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

import edgeae_runtime

CALLS, WINDOWS, WARM_UP = 100, 2, 20
FOLDER = Path(sys.argv[1])
ROW = np.load(FOLDER / "row.npy")  # raw units, (1, size)
GAIN = np.float32(np.load(FOLDER / "gain.npy"))


def ours(engine: str, precision: str) -> Callable[[], object]:
    """Return a call of the library with one sample."""
    ae = edgeae_runtime.load(FOLDER / "ours.edgeae", engine=engine, precision=precision)
    sample = ROW[0]
    return lambda: ae.detect(sample)


def session(path: Path) -> onnxruntime.InferenceSession:
    """Return a session with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def interpreter(path: Path) -> Interpreter:
    """Return an interpreter with one thread, its buffers laid out for one row."""
    made = Interpreter(str(path), num_threads=1)
    made.resize_tensor_input(made.get_input_details()[0]["index"], made.get_input_details()[0]["shape"])
    made.allocate_tensors()
    return made


def bare_onnxruntime(precision: str) -> Callable[[], object]:
    """Return the session's own call on our scorer."""
    run = session(FOLDER / "ours.edgeae" / f"scorer.{precision}.onnx").run
    return lambda: run(["embedding", "error"], {"input": ROW})


def bare_litert(precision: str) -> Callable[[], object]:
    """Return the interpreter's own calls on our scorer."""
    made = interpreter(FOLDER / "ours.edgeae" / f"scorer.{precision}.tflite")
    signature = made.get_signature_runner()
    given = signature.get_input_details()["input"]["index"]
    details = signature.get_output_details()
    embedding, error = (details[name]["index"] for name in ("embedding", "error"))

    def call() -> object:
        made.set_tensor(given, ROW)
        made.invoke()
        return made.get_tensor(embedding), made.get_tensor(error)

    return call


def hand_onnxruntime(precision: str) -> Callable[[], object]:
    """Return encoder, decoder and numpy's error, as one writes them."""
    encoder, decoder = (session(FOLDER / f"{part}.{precision}.onnx") for part in ("encoder", "decoder"))

    def call() -> object:
        scaled = ROW * GAIN
        (code,) = encoder.run(None, {"input": scaled})
        (copy,) = decoder.run(None, {"embedding": code})
        return code, np.mean((scaled - copy) ** 2, axis=1)

    return call


def hand_litert(precision: str) -> Callable[[], object]:
    """Return the same with LiteRT; int8 models are given and give integers."""
    encoder, decoder = (_numbers(FOLDER / f"{part}.{precision}.tflite") for part in ("encoder", "decoder"))

    def call() -> object:
        scaled = ROW * GAIN
        code = encoder(scaled)
        return code, np.mean((scaled - decoder(code)) ** 2, axis=1)

    return call


def _numbers(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    made = interpreter(path)
    (given,), (found,) = made.get_input_details(), made.get_output_details()
    (scale, zero), (scale_out, zero_out) = given["quantization"], found["quantization"]
    if not scale:

        def run(values: np.ndarray) -> np.ndarray:
            made.set_tensor(given["index"], values)
            made.invoke()
            return made.get_tensor(found["index"])

        return run

    def run_int8(values: np.ndarray) -> np.ndarray:
        integers = np.clip(np.round(values / scale) + zero, -128, 127).astype(np.int8)
        made.set_tensor(given["index"], integers)
        made.invoke()
        return (made.get_tensor(found["index"]).astype(np.float32) - zero_out) * np.float32(scale_out)

    return run_int8


def invocation(path: Path) -> Callable[[], object]:
    """Return LiteRT's invocation of a model and nothing else."""
    return interpreter(path).invoke


def bare_autoencoder(precision: str) -> Callable[[], object]:
    """Return the calls that put a row in and take a copy out: no scaling, no embedding, no error."""
    made = interpreter(FOLDER / f"autoencoder.{precision}.tflite")
    (given,), (found,) = made.get_input_details(), made.get_output_details()
    row = np.zeros(given["shape"], given["dtype"])

    def call() -> object:
        made.set_tensor(given["index"], row)
        made.invoke()
        return made.get_tensor(found["index"])

    return call


CASES: dict[str, Callable[[], Callable[[], object]]] = {
    **{
        f"edgeae {engine} {precision}": lambda e=engine, p=precision: ours(e, p)
        for engine in ("onnxruntime", "litert")
        for precision in ("float32", "int8")
    },
    "our scorer, onnxruntime's own call, float32": lambda: bare_onnxruntime("float32"),
    "our scorer, onnxruntime's own call, int8": lambda: bare_onnxruntime("int8"),
    "our scorer, litert's own calls, float32": lambda: bare_litert("float32"),
    "our scorer, litert's own calls, int8": lambda: bare_litert("int8"),
    "our scorer, litert's invocation alone, float32": lambda: invocation(
        FOLDER / "ours.edgeae" / "scorer.float32.tflite"
    ),
    "our scorer, litert's invocation alone, int8": lambda: invocation(
        FOLDER / "ours.edgeae" / "scorer.int8.tflite"
    ),
    "by hand, onnxruntime float32": lambda: hand_onnxruntime("float32"),
    "by hand, onnxruntime int8": lambda: hand_onnxruntime("int8"),
    "by hand, litert float32": lambda: hand_litert("float32"),
    "by hand, litert int8": lambda: hand_litert("int8"),
    "bare autoencoder, litert's own calls, float32": lambda: bare_autoencoder("float32"),
    "bare autoencoder, litert's own calls, int8": lambda: bare_autoencoder("int8"),
    "bare autoencoder, litert's invocation alone, int8": lambda: invocation(
        FOLDER / "autoencoder.int8.tflite"
    ),
}

if __name__ == "__main__":
    for make in CASES.values():
        call = make()
        for _ in range(WARM_UP):
            call()
        for _ in range(WINDOWS):
            os.sched_yield()
            for _ in range(CALLS):
                call()
        os.sched_yield()
    json.dump({"cases": list(CASES), "calls": CALLS, "windows": WINDOWS}, sys.stdout)
