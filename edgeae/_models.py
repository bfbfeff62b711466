"""Keras models: an `encoder`, a `decoder`, and both in a row as `autoencoder`.

All of them take and give scaled samples and have a flat code (n, latent). They consist of Keras's own
layers, so that a saved model loads wherever Keras is; `untie` makes it so for tied weights.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from ._config import TrainConfig


def build(shape: tuple[int, ...], config: TrainConfig) -> keras.Model:
    """Build an autoencoder, uncompiled.

    Args:
        shape: of a sample, without the batch axis.
        config: complete settings.

    Returns:
        A functional model with the layers ``encoder`` and ``decoder``. It takes and gives (n, size) for
        dense and (n, *shape) for the others.
    """
    assert config.hidden is not None and config.latent is not None
    layers = Layers(l2=config.l2, max_norm=config.max_norm, code=_code_activation(config))
    output = "sigmoid" if config.loss == "bce" else "linear"
    if config.arch == "dense":
        size = math.prod(shape)
        return dense(size, config.hidden, config.latent, output, layers=layers, tied=config.tied)
    if config.arch == "lstm":
        return lstm(shape, config.hidden, config.latent, output, layers=layers)
    return convolutional(shape, config.hidden, config.latent, output, rank=int(config.arch[4]), layers=layers)


class Layers:
    """Makes layers that share their regularization."""

    def __init__(self, *, l2: float = 0.0, max_norm: float | None = None, code: str = "linear") -> None:
        """Keep the settings; see `TrainConfig`.

        Args:
            l2: weight of the squared kernels.
            max_norm: of the weights that lead into one unit.
            code: activation of the code.
        """
        self.l2, self.max_norm, self.code = l2, max_norm, code

    def options(self, *axes: int, kernel: str = "kernel") -> dict[str, Any]:
        """Return the arguments of a layer whose kernel has its inputs along ``axes``."""
        found: dict[str, Any] = {}
        if self.l2:
            found[f"{kernel}_regularizer"] = keras.regularizers.L2(self.l2)
        if self.max_norm is not None:
            found[f"{kernel}_constraint"] = keras.constraints.MaxNorm(self.max_norm, list(axes))
        return found

    def dense(self, units: int, activation: str = "linear", name: str | None = None) -> keras.layers.Layer:
        """Return a dense layer."""
        return keras.layers.Dense(units, activation=activation, name=name, **self.options(0))

    def halve(self, rank: int, filters: int) -> keras.layers.Layer:
        """Return a convolution (ReLU) that halves ``rank`` axes, rounding up."""
        kind = keras.layers.Conv1D if rank == 1 else keras.layers.Conv2D
        options = self.options(*range(rank + 1))
        return kind(filters, 3, strides=2, padding="same", activation="relu", **options)

    def double(self, rank: int, filters: int, activation: str) -> keras.layers.Layer:
        """Return a transposed convolution that doubles ``rank`` axes.

        Its width is a multiple of its stride, or else it would leave a checkerboard (Odena et al. 2016,
        "Deconvolution and Checkerboard Artifacts").
        """
        kind = keras.layers.Conv1DTranspose if rank == 1 else keras.layers.Conv2DTranspose
        options = self.options(*range(rank), rank + 1)
        return kind(filters, 4, strides=2, padding="same", activation=activation, **options)

    def lstm(self, units: int, *, sequences: bool) -> keras.layers.Layer:
        """Return an LSTM that gives all steps or the last one."""
        options = self.options(0) | self.options(0, kernel="recurrent")
        return keras.layers.LSTM(units, return_sequences=sequences, **options)


def dense(
    size: int,
    hidden: Sequence[int],
    latent: int,
    output_activation: str,
    *,
    layers: Layers | None = None,
    tied: bool = False,
) -> keras.Model:
    """Build a dense autoencoder, (n, size) to (n, size).

    Args:
        size: values in one sample.
        hidden: units of the encoder's hidden layers (ReLU); the decoder mirrors them.
        latent: units of the code.
        output_activation: of the last layer.
        layers: how layers are made.
        tied: the decoder's kernels are the encoder's, transposed; `untie` before saving.
    """
    make = layers or Layers()
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
            Transposed(twin, activation, name=name) if tied else make.dense(units, activation, name)
        )
    return _whole(inputs, values, (latent,), decoding)


def convolutional(
    shape: tuple[int, ...],
    filters: Sequence[int],
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
        filters: of the encoder's convolutions (ReLU); the decoder mirrors them.
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
    for count in filters:
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
    after = [*((count, "relu") for count in reversed(filters[:-1])), (channels, output_activation)]
    for i, (count, activation) in enumerate(after):
        decoding.append(make.double(rank, count, activation))
        decoding += _cut(sizes[-1 - i], sizes[-2 - i])
    if flat:
        decoding.append(keras.layers.Reshape(shape))
    return _whole(inputs, code, (latent,), decoding)


def lstm(
    shape: tuple[int, ...],
    hidden: Sequence[int],
    latent: int,
    output_activation: str,
    *,
    layers: Layers | None = None,
) -> keras.Model:
    """Build a recurrent autoencoder, (n, steps, channels) to the same.

    The code comes from the last state; the decoder is given it at every step (Srivastava et al. 2015,
    "Unsupervised Learning of Video Representations using LSTMs", section 2.2, unconditioned).

    Args:
        shape: steps and channels.
        hidden: units of the encoder's LSTM layers; the decoder mirrors them.
        latent: units of the code.
        output_activation: of the last layer.
        layers: how layers are made.
    """
    make = layers or Layers()
    steps, channels = shape
    inputs = values = keras.Input(shape, name="input")
    for i, units in enumerate(hidden):
        values = make.lstm(units, sequences=i < len(hidden) - 1)(values)
    code = make.dense(latent, make.code, name="embedding")(values)
    decoding: list[Callable[[Any], Any]] = [keras.layers.RepeatVector(steps)]
    decoding += [make.lstm(units, sequences=True) for units in reversed(hidden)]
    last = make.dense(channels, output_activation)
    decoding.append(keras.layers.TimeDistributed(last, name="reconstruction"))
    return _whole(inputs, code, (latent,), decoding)


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


def posterior(encoder: keras.Model) -> keras.Model:
    """Return the model of the code's log-variance: a layer beside the code, sharing what is before it."""
    code = encoder.get_layer("embedding")
    log_variance = keras.layers.Dense(code.units, name="log_variance", kernel_initializer="zeros")
    return keras.Model(encoder.input, log_variance(code.input), name="posterior")


def untie(model: keras.Model, plain: keras.Model) -> keras.Model:
    """Return ``plain``, an untied model of the same sizes, with the weights of a tied one."""
    kernels = [layer.get_weights() for layer in model.get_layer("encoder").layers if layer.weights]
    biases = [layer.get_weights() for layer in model.get_layer("decoder").layers if layer.weights]
    decoder = [(kernel.T, bias[0]) for (kernel, _), bias in zip(reversed(kernels), biases, strict=True)]
    plain.set_weights([array for pair in (*kernels, *decoder) for array in pair])
    return plain


def _whole(
    inputs: Any, code: Any, code_shape: tuple[int, ...], decoding: Sequence[Callable[[Any], Any]]
) -> keras.Model:
    """Return decoder after encoder, each a model of its own."""
    encoder = keras.Model(inputs, code, name="encoder")
    given = values = keras.Input(code_shape, name="embedding")
    for layer in decoding:
        values = layer(values)
    decoder = keras.Model(given, values, name="decoder")
    whole = keras.Input(inputs.shape[1:], name="input")
    return keras.Model(whole, decoder(encoder(whole)), name="autoencoder")


def _cut(small: tuple[int, ...], large: tuple[int, ...]) -> list[keras.layers.Layer]:
    """Return what cuts doubled axes to their size before they were halved."""
    surplus = [(0, 2 * a - b) for a, b in zip(small, large, strict=True)]
    if not any(after for _, after in surplus):
        return []
    return [keras.layers.Cropping1D(surplus[0]) if len(small) == 1 else keras.layers.Cropping2D(surplus)]


def _code_activation(config: TrainConfig) -> str:
    """Sparse codes are zero or near it most of the time, which a linear code never is."""
    if config.objective != "sparse":
        return "linear"
    return "relu" if config.sparsity == "l1" else "sigmoid"
