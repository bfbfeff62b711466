"""LiteRT by hand: encoder and decoder through TensorFlow's converter, scaling and error in numpy.

int8 as the converter's documentation has it: full integer kernels with a representative data set; inputs
and outputs stay float, since rounding them in numpy would only be slower.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import Peer, scaler_of

CALIBRATION_ROWS = 512


def convert(made: Any, precision: str) -> None:
    import keras
    import tensorflow as tf

    model = made.model
    offset, gain = scaler_of(made.folder)
    rows = (made.rows[:CALIBRATION_ROWS] - offset) * gain
    for role in ("encoder", "decoder"):
        layer = model.get_layer(role)
        if any(isinstance(inner, keras.layers.RNN) for inner in layer.layers):
            # only for a known batch size do recurrent layers become LiteRT's own
            inputs = keras.Input(batch_shape=(1, *layer.input_shape[1:]))
            converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, layer(inputs)))
        else:
            converter = tf.lite.TFLiteConverter.from_keras_model(layer)
        if precision == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda rows=rows: ([row[np.newaxis]] for row in rows)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        (made.folder / f"hand.{role}.{precision}.tflite").write_bytes(converter.convert())
        rows = layer.predict(rows, verbose=0)


def load(folder: Path, threads: int, precision: str) -> Peer:
    offset, gain = scaler_of(folder)
    encoder = _network(folder / f"hand.encoder.{precision}.tflite", threads)
    decoder = _network(folder / f"hand.decoder.{precision}.tflite", threads)

    def score(rows: Any) -> tuple[Any, Any]:
        x = (rows - offset) * gain
        embedding = encoder(x)
        return embedding, np.square(x - decoder(embedding)).reshape(len(x), -1).mean(axis=1)

    return Peer(score, lambda rows: encoder((rows - offset) * gain))


def _network(path: Path, threads: int) -> Callable[[Any], Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    given, any_size = details["index"], details["shape_signature"][0] == -1
    result = interpreter.get_output_details()[0]["index"]
    size = 1

    def run(batch: Any) -> Any:
        nonlocal size
        if len(batch) != size and not any_size:
            return np.concatenate([run(row[np.newaxis]) for row in batch])
        if len(batch) != size:
            interpreter.resize_tensor_input(given, batch.shape)
            interpreter.allocate_tensors()
            size = len(batch)
        interpreter.set_tensor(given, batch)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return run
