"""onnxruntime by hand: encoder and decoder through tf2onnx, scaling and error in numpy.

int8 as onnxruntime's documentation has it: pre-processing, then `quantize_static` with its defaults (QDQ,
signed, per tensor), the encoder calibrated on samples and the decoder on the encoder's embeddings.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import Peer, scaler_of

CALIBRATION_ROWS = 512


def convert(made: Any, precision: str) -> None:
    import tensorflow as tf
    import tf2onnx

    model = made.model
    offset, gain = scaler_of(made.folder)
    rows = (made.rows[:CALIBRATION_ROWS] - offset) * gain
    for role in ("encoder", "decoder"):
        layer = model.get_layer(role)
        path = made.folder / f"hand.{role}.float32.onnx"
        if not path.exists():
            function = tf.function(lambda x, layer=layer: layer(x, training=False))
            signature = [tf.TensorSpec((None, *layer.input_shape[1:]), tf.float32, name="x")]
            tf2onnx.convert.from_function(function, signature, opset=17, output_path=str(path))
        if precision == "int8":
            _quantize(path, made.folder / f"hand.{role}.int8.onnx", rows)
        rows = layer.predict(rows, verbose=0)


def _quantize(path: Path, target: Path, rows: Any) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows: Iterator[Any] = iter(rows)

        def get_next(self) -> dict[str, Any] | None:
            row = next(self.rows, None)
            return None if row is None else {"x": row[np.newaxis]}

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)  # of use for transformers alone
    quantize_static(prepared, target, Reader())


def load(folder: Path, threads: int, precision: str) -> Peer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    encoder, decoder = (
        onnxruntime.InferenceSession(
            folder / f"hand.{role}.{precision}.onnx", options, providers=["CPUExecutionProvider"]
        )
        for role in ("encoder", "decoder")
    )
    code = decoder.get_inputs()[0].name
    offset, gain = scaler_of(folder)

    def score(rows: Any) -> tuple[Any, Any]:
        x = (rows - offset) * gain
        embedding = encoder.run(None, {"x": x})[0]
        reconstruction = decoder.run(None, {code: embedding})[0]
        return embedding, np.square(x - reconstruction).reshape(len(x), -1).mean(axis=1)

    return Peer(score, lambda rows: encoder.run(None, {"x": (rows - offset) * gain})[0])
