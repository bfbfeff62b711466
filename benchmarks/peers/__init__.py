"""The peers: what people use instead, each written the way a competent user would.

Each file has ``convert(made)``, which writes what it needs beside the model, and ``load(folder, threads)``,
which returns a `Peer`. `Peer.score` takes rows in raw units, float32, in the network's input shape, and
gives embedding and error, the mean squared difference in scaled units; `Peer.embed` only the embedding.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as edgeae_runtime does, which a peer must not import

TENSORFLOW = ("keras_predict", "keras_call", "tf_function")
PEERS = {
    "keras_predict": "Keras `model.predict`",
    "keras_call": "Keras `model(x, training=False)`",
    "tf_function": "TensorFlow, a concrete `tf.function`",
    "onnxruntime_float32": "onnxruntime float32, by hand",
    "onnxruntime_int8": "onnxruntime int8, by hand",
    "litert_float32": "LiteRT float32, by hand",
    "litert_int8": "LiteRT int8, by hand",
    "openvino_float32": "OpenVINO float32, by hand",
    "pca": "scikit-learn PCA (the floor of the task, another model)",
}
"""By the name of its file; some files hold two precisions."""


class Peer(NamedTuple):
    score: Callable[[Any], tuple[Any, Any]]
    embed: Callable[[Any], Any]


def scaler_of(folder: Path) -> tuple[Any, Any]:
    """Return offset and gain of ``scaled = (raw - offset) * gain``, float32."""
    values = json.loads((folder / "scaler.json").read_text())
    return np.float32(values["offset"]), np.float32(values["gain"])


def convert(name: str, made: Any) -> None:
    """Let a peer write what it needs."""
    module, precision = _module(name)
    module.convert(made, *precision)


def load(name: str, folder: Path, threads: int) -> Peer:
    """Load what a peer has converted."""
    module, precision = _module(name)
    peer: Peer = module.load(folder, threads, *precision)
    return peer


def _module(name: str) -> tuple[Any, list[str]]:
    from importlib import import_module

    stem, _, last = name.rpartition("_")
    precision = [last] if last in ("float32", "int8") else []
    return import_module(f"{__name__}.{stem + '_' if precision else name}"), precision
