"""A trained autoencoder as functions of arrays, and as bytes."""

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeae_export.model import load_keras
from edgeae_export.quiet import import_tensorflow
from edgeae_export.source import MODEL_NAME
from edgeae_runtime import Floats

if TYPE_CHECKING:
    from ..training.run import Trained

CHUNK = 128
"""Rows in one call of a network."""
_NETWORKS = ("model", "posterior")
"""The fields of `Trained` that are Keras models."""


class Networks:
    """Encoder and decoder, called on chunks of one fixed size.

    The arithmetic of a matrix product depends on its size. Always the same size, whatever the number of
    rows, makes a row's result independent of those beside it; and one trace does for all.
    """

    def __init__(self, trained: "Trained") -> None:
        """Take the Keras models of a training."""
        source = trained.source
        self._encoder, self._decoder = _Chunked(source.encoder), _Chunked(source.decoder)
        self.latent_size = int(source.encoder.output_shape[-1])

    def encode(self, scaled: Floats) -> Floats:
        """Return codes (n, latent size) of samples (n, *shape) in scaled units."""
        return self._encoder(scaled)

    def decode(self, codes: Floats) -> Floats:
        """Return reconstructions (n, ...), in the shape that the network gives, in scaled units."""
        return self._decoder(codes)


class _Chunked:
    """A Keras model as a function of arrays with any number of rows; traced at the first call."""

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        self._shape = tuple(model.input_shape[1:])
        signature = [tf.TensorSpec((CHUNK, *self._shape), tf.float32)]
        self._run = tf.function(lambda values: model(values, training=False), signature, autograph=False)

    def __call__(self, values: Floats) -> Floats:
        values = values.reshape(-1, *self._shape)
        parts = []
        for start in range(0, len(values), CHUNK):
            chunk = values[start : start + CHUNK]
            padding = [(0, CHUNK - len(chunk)), *[(0, 0)] * (values.ndim - 1)]
            parts.append(self._run(np.pad(chunk, padding)).numpy()[: len(chunk)])
        return np.concatenate(parts)


def pack(trained: "Trained") -> "Trained":
    """Return the same with every network as the bytes of a .keras file, for pickling."""
    from ..training.run import MOST_HELD_OUT_ROWS

    packed: dict[str, Any] = {
        name: _to_bytes(getattr(trained, name)) for name in _NETWORKS if getattr(trained, name) is not None
    }
    few = np.array(trained.held_out[:MOST_HELD_OUT_ROWS])  # as many as a run folder keeps
    return dataclasses.replace(trained, held_out=few, **packed)


def unpack(packed: "Trained") -> "Trained":
    """Return what `pack` was given, with the networks uncompiled."""
    import_tensorflow()
    models: dict[str, Any] = {
        name: _from_bytes(getattr(packed, name)) for name in _NETWORKS if getattr(packed, name) is not None
    }
    return dataclasses.replace(packed, **models)


def _to_bytes(model: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:  # Keras writes to a path alone
        path = Path(folder, MODEL_NAME)
        model.save(path)
        return path.read_bytes()


def _from_bytes(content: bytes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, MODEL_NAME)
        path.write_bytes(content)
        return load_keras(path)
