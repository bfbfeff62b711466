"""TensorFlow's three ways to do what a bundle's scorer does: raw units in, embedding and error out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeae_export.model import load_keras
from edgeae_export.quiet import import_tensorflow, quiet
from edgeae_export.source import MODEL_NAME, Source
from edgeae_runtime import DataError, Floats, Manifest


def peers(model: str, manifest: Manifest) -> Callable[[Floats], Mapping[str, Callable[[], object]]]:
    """Return what makes the calls for a batch; entry point of ``edgeae.bench``.

    Args:
        model: a ``.keras`` file or a run folder.
        manifest: of the bundle that was made from it, for the scaler.

    Raises:
        RunError: the model cannot be read.
        DataError: it takes samples of another size than the bundle.
    """
    path = Path(model)
    import_tensorflow()
    loaded = load_keras(path / MODEL_NAME if path.is_dir() else path)
    from edgeae_export.model import split_model  # needs Keras

    encoder, decoder = split_model(loaded, None, manifest.input.shape)
    shape = tuple(encoder.input_shape[1:])
    if np.prod(shape) != manifest.input.size:
        raise DataError(f"{model}: takes samples of shape {shape}, the bundle {manifest.input.shape}")
    rows = np.zeros((0, *manifest.input.shape), np.float32)
    make = tensorflow_calls(Source(encoder, decoder, manifest.scaler, manifest.input, rows))
    return make


def tensorflow_calls(source: Source) -> Callable[[Floats], dict[str, Callable[[], Any]]]:
    """Return what makes, for a batch (n, *shape) in raw units, the calls of all three ways.

    Each call returns a dict of ``embedding`` and ``error``.
    """
    import keras
    import tensorflow as tf

    from edgeae_export.formats import role_function

    function: Any = role_function(source, "scorer", clip=False)

    class Scorer(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
        def call(self, inputs: Any) -> Any:
            return function(inputs)

    shape = source.encoder.input_shape[1:]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, Scorer()(inputs))
    concrete = function.get_concrete_function()

    def calls(samples: Floats) -> dict[str, Callable[[], Any]]:
        batch = np.float32(samples).reshape(-1, *shape)
        tensor = tf.constant(batch)
        made: dict[str, Callable[[], Any]] = {
            "Keras model.predict": lambda: model.predict(batch, verbose=0),
            "Keras model(x)": lambda: model(tensor),
            "TensorFlow tf.function": lambda: concrete(tensor),
        }
        with quiet():
            for call in made.values():  # the first call traces, and prints about it
                call()
        return made

    return calls
