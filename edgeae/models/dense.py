"""Fully connected autoencoders, with weights of their own or tied ones."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from .layers import Layers, in_a_row


def dense(
    shape: tuple[int, ...],
    hidden: Sequence[int],
    latent: int,
    output_activation: str,
    *,
    layers: Layers | None = None,
) -> keras.Model:
    """Build a dense autoencoder, (n, size) to (n, size).

    Args:
        shape: of a sample, which is flattened.
        hidden: units of the encoder's hidden layers (ReLU); the decoder mirrors them.
        latent: units of the code.
        output_activation: of the last layer.
        layers: how layers are made; `untie` tied ones before saving.
    """
    make = layers or Layers()
    size = math.prod(shape)
    inputs = values = keras.Input((size,), name="input")
    encoding = [make.dense(units, "relu") for units in hidden]
    encoding.append(make.dense(latent, make.code, name="embedding"))
    for layer in encoding:
        values = layer(values)

    decoding: list[Callable[[Any], Any]] = []
    widths = [*((units, "relu") for units in reversed(hidden)), (size, output_activation)]
    for i, (units, activation) in enumerate(widths):
        name = "reconstruction" if i == len(hidden) else None
        twin = encoding[-1 - i]
        decoding.append(
            Transposed(twin, activation, name=name) if make.tied else make.dense(units, activation, name)
        )
    return in_a_row(inputs, values, (latent,), decoding)


class Transposed(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """A dense layer that shares its kernel, transposed, with another one."""

    def __init__(self, source: keras.layers.Dense, activation: str, **options: Any) -> None:
        """Share the kernel of ``source``."""
        super().__init__(**options)
        self.activation = keras.activations.get(activation)
        self._kernel: Callable[[], Any] = lambda: source.kernel  # so that Keras does not count it twice

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the bias; the kernel is there already."""
        self.bias = self.add_weight(shape=(self._kernel().shape[0],), initializer="zeros", name="bias")

    def call(self, inputs: Any) -> Any:
        """Return (n, inputs of the shared layer)."""
        kernel = keras.ops.transpose(self._kernel())
        return self.activation(keras.ops.matmul(inputs, kernel) + self.bias)


def untie(model: keras.Model, plain: keras.Model) -> keras.Model:
    """Return ``plain``, an untied model of the same sizes, with the weights of a tied one."""
    kernels = [layer.get_weights() for layer in model.get_layer("encoder").layers if layer.weights]
    biases = [layer.get_weights() for layer in model.get_layer("decoder").layers if layer.weights]
    decoder = [(kernel.T, bias[0]) for (kernel, _), bias in zip(reversed(kernels), biases, strict=True)]
    plain.set_weights([array for pair in (*kernels, *decoder) for array in pair])
    return plain
