"""Keras, called directly, which its documentation advises for small inputs."""

from pathlib import Path
from typing import Any

import numpy as np

from . import Peer, scaler_of


def convert(made: Any) -> None:
    """Keras runs the model that it has saved."""


def parts(folder: Path) -> tuple[Any, Any, Any, Any]:
    """Return the scaling, a model with embedding and reconstruction, the encoder, and the error."""
    import keras

    offset, gain = scaler_of(folder)
    whole = keras.saving.load_model(folder / "autoencoder.keras", compile=False)
    encoder, decoder = whole.get_layer("encoder"), whole.get_layer("decoder")
    inputs = keras.Input(encoder.input_shape[1:])
    code = encoder(inputs)

    def scaled(rows: Any) -> Any:
        return (rows - offset) * gain

    def error(x: Any, reconstruction: Any) -> Any:
        return np.square(x - reconstruction).reshape(len(x), -1).mean(axis=1)

    return scaled, keras.Model(inputs, (code, decoder(code))), encoder, error


def load(folder: Path, threads: int) -> Peer:
    scaled, model, encoder, error = parts(folder)

    def score(rows: Any) -> tuple[Any, Any]:
        x = scaled(rows)
        embedding, reconstruction = model(x, training=False)
        return embedding.numpy(), error(x, reconstruction.numpy())

    return Peer(score, lambda rows: encoder(scaled(rows), training=False).numpy())
