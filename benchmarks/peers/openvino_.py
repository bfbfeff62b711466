"""OpenVINO by hand: the same ONNX files as onnxruntime's, scaling and error in numpy."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from . import Peer, onnxruntime_, scaler_of


def convert(made: Any, precision: str) -> None:
    onnxruntime_.convert(made, precision)


def load(folder: Path, threads: int, precision: str) -> Peer:
    # Its import reports to Google Analytics and leaves an id in ~/intel; its switches are a file there and
    # CI=true, which says more than is meant. Where this package is missing, it takes a stub of its own.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it, which moves the error
    }
    encoder, decoder = (
        openvino.Core()
        .compile_model(folder / f"hand.{role}.{precision}.onnx", "CPU", settings)
        .create_infer_request()
        for role in ("encoder", "decoder")
    )
    offset, gain = scaler_of(folder)

    def score(rows: Any) -> tuple[Any, Any]:
        x = (rows - offset) * gain
        embedding = encoder.infer([x], share_inputs=True)[0]
        reconstruction = decoder.infer([embedding], share_inputs=True, share_outputs=True)[0]
        return embedding, np.square(x - reconstruction).reshape(len(x), -1).mean(axis=1)

    return Peer(score, lambda rows: encoder.infer([(rows - offset) * gain], share_inputs=True)[0])
