"""Recurrent autoencoders, of LSTM or GRU layers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras

from .layers import Layers, in_a_row


def recurrent(
    shape: tuple[int, ...],
    hidden: Sequence[int],
    latent: int,
    output_activation: str,
    *,
    cell: type[keras.layers.Layer],
    layers: Layers | None = None,
) -> keras.Model:
    """Build a recurrent autoencoder, (n, steps, channels) to the same.

    The code comes from the last state; the decoder is given it at every step (Srivastava et al. 2015,
    "Unsupervised Learning of Video Representations using LSTMs", section 2.2, unconditioned).

    Args:
        shape: steps and channels.
        hidden: units of the encoder's recurrent layers; the decoder mirrors them.
        latent: units of the code.
        output_activation: of the last layer.
        cell: the class of a recurrent layer.
        layers: how layers are made.
    """
    make = layers or Layers()
    steps, channels = shape
    inputs = values = keras.Input(shape, name="input")
    for i, units in enumerate(hidden):
        values = make.recurrent(cell, units, sequences=i < len(hidden) - 1)(values)
    code = make.dense(latent, make.code, name="embedding")(values)
    decoding: list[Callable[[Any], Any]] = [keras.layers.RepeatVector(steps)]
    decoding += [make.recurrent(cell, units, sequences=True) for units in reversed(hidden)]
    last = make.dense(channels, output_activation)
    decoding.append(keras.layers.TimeDistributed(last, name="reconstruction"))
    return in_a_row(inputs, code, (latent,), decoding)


lstm = partial(recurrent, cell=keras.layers.LSTM)
gru = partial(recurrent, cell=keras.layers.GRU)
