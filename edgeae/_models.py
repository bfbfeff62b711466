"""Keras models: an `encoder`, a `decoder`, and both in a row as `autoencoder`."""

from collections.abc import Sequence

import keras


def dense(size: int, hidden: Sequence[int], latent: int, output_activation: str) -> keras.Model:
    """Build a dense autoencoder, uncompiled.

    Args:
        size: values in one sample.
        hidden: units of the encoder's hidden layers (ReLU); the decoder mirrors them.
        latent: units of the code (linear).
        output_activation: of the last layer.

    Returns:
        A functional model, (n, size) to (n, size), with the layers ``encoder`` and ``decoder``.
    """
    inputs = values = keras.Input((size,), name="input")
    for units in hidden:
        values = keras.layers.Dense(units, activation="relu")(values)
    encoder = keras.Model(inputs, keras.layers.Dense(latent, name="embedding")(values), name="encoder")

    code = values = keras.Input((latent,), name="embedding")
    for units in reversed(hidden):
        values = keras.layers.Dense(units, activation="relu")(values)
    outputs = keras.layers.Dense(size, activation=output_activation, name="reconstruction")(values)
    decoder = keras.Model(code, outputs, name="decoder")

    whole = keras.Input((size,), name="input")
    return keras.Model(whole, decoder(encoder(whole)), name="autoencoder")
