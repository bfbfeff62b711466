"""Convolutional autoencoders, over one axis or two."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras

from .layers import Layers, cut, in_a_row


def convolutional(
    shape: tuple[int, ...],
    hidden: Sequence[int],
    latent: int,
    output_activation: str,
    *,
    rank: int,
    layers: Layers | None = None,
) -> keras.Model:
    """Build a convolutional autoencoder, (n, *shape) to (n, *shape).

    Convolutions with stride 2 halve the axes, rounding up; on the way back, transposed ones double them,
    and an axis that was odd is cut.

    Args:
        shape: ``rank`` axes and, but for an image of one channel, the channels.
        hidden: filters of the encoder's convolutions (ReLU); the decoder mirrors them.
        latent: units of the code.
        output_activation: of the last layer.
        rank: 1 for series, 2 for images.
        layers: how layers are made.
    """
    make = layers or Layers()
    inputs = values = keras.Input(shape, name="input")
    if len(shape) == rank:
        values = keras.layers.Reshape((*shape, 1))(values)
    sizes = [tuple(shape[:rank])]
    for count in hidden:
        values = make.halve(rank, count)(values)
        sizes.append(tuple(values.shape[1:-1]))
    smallest = tuple(values.shape[1:])
    code = make.dense(latent, make.code, name="embedding")(keras.layers.Flatten()(values))

    decoding: list[Callable[[Any], Any]] = [
        make.dense(math.prod(smallest), "relu"),
        keras.layers.Reshape(smallest),
    ]
    flat = len(shape) == rank
    channels = 1 if flat else shape[-1]
    after = [*((count, "relu") for count in reversed(hidden[:-1])), (channels, output_activation)]
    for i, (count, activation) in enumerate(after):
        decoding.append(make.double(rank, count, activation))
        decoding += cut(sizes[-1 - i], sizes[-2 - i])
    if flat:
        decoding.append(keras.layers.Reshape(shape))
    return in_a_row(inputs, code, (latent,), decoding)


conv1d = partial(convolutional, rank=1)
conv2d = partial(convolutional, rank=2)
