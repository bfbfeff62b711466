"""The table of architectures: what settings, options, checks and documents know of each.

Imported with the settings, so nothing here imports Keras; a builder is named, and imported when it is used.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    import keras

    from .layers import Layers

Arch: TypeAlias = Literal["dense", "conv1d", "conv2d", "lstm", "gru", "linear"]

LARGEST_DENSE = 128
SMALLEST_DENSE = 8
FILTERS = (16, 32)
"""Of a convolutional encoder; each layer halves the sample's axes."""
RECURRENT_UNITS = 64


class Builder(Protocol):
    """A function that builds an autoencoder."""

    def __call__(
        self,
        shape: tuple[int, ...],
        hidden: Sequence[int],
        latent: int,
        output_activation: str,
        *,
        layers: "Layers | None" = None,
    ) -> "keras.Model":
        """Return an uncompiled model ``autoencoder`` of the layers ``encoder`` and ``decoder``.

        Args:
            shape: of a sample, without the batch axis.
            hidden: sizes of the encoder's hidden layers; the decoder mirrors them.
            latent: units of the code, the encoder's layer ``embedding``.
            output_activation: of the last layer.
            layers: how layers are made.
        """


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of network."""

    builder: str
    """``module:function`` in this folder; the function is a `Builder`."""
    summary: str
    """What it is, for the documents."""
    axes: tuple[int, ...] | None
    """How many axes a sample may have; None takes any, and flattens them."""
    samples: str
    """The same in words."""
    default_hidden: Callable[[tuple[int, ...]], tuple[int, ...]]
    """From the shape of a sample to the sizes of the hidden layers."""
    default_hidden_text: str
    """The same in words."""
    hidden_layers: tuple[int, float] = (1, math.inf)
    """The least and the most of them."""
    tied: bool = False
    """Whether the decoder can share the encoder's kernels."""
    activations: bool = True
    """Whether layers may have one; without, there is no cross-entropy and no sparse code."""

    def takes(self, shape: Sequence[int]) -> bool:
        """Return whether a sample may have this shape."""
        return self.axes is None or len(shape) in self.axes

    def load_builder(self) -> Builder:
        """Import Keras and return the function that builds the network."""
        from importlib import import_module

        module, _, function = self.builder.partition(":")
        builder: Builder = getattr(import_module(f".{module}", __package__), function)
        return builder


def _dense_hidden(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (min(LARGEST_DENSE, max(SMALLEST_DENSE, math.prod(shape))),)


def _filters(axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return one layer where a second one would leave less than two values along an axis."""
    return FILTERS if min(axes) >= 4 else FILTERS[:1]


ARCHITECTURES: dict[Arch, Architecture] = {
    "dense": Architecture(
        builder="dense:dense",
        summary="fully connected layers (ReLU)",
        axes=None,
        samples="any shape, flattened",
        default_hidden=_dense_hidden,
        default_hidden_text="as many as the input, 8 to 128",
        hidden_layers=(0, math.inf),
        tied=True,
    ),
    "conv1d": Architecture(
        builder="conv:conv1d",
        summary="convolutions (ReLU), each of which halves the steps",
        axes=(2,),
        samples="2 axes, (steps, channels)",
        default_hidden=lambda shape: _filters(shape[:1]),
        default_hidden_text="16 and 32",
    ),
    "conv2d": Architecture(
        builder="conv:conv2d",
        summary="convolutions (ReLU), each of which halves height and width",
        axes=(2, 3),
        samples="2 or 3 axes, (height, width[, channels])",
        default_hidden=lambda shape: _filters(shape[:2]),
        default_hidden_text="16 and 32",
    ),
    "lstm": Architecture(
        builder="recurrent:lstm",
        summary="LSTM layers; the code is made from the last state",
        axes=(2,),
        samples="2 axes, (steps, channels)",
        default_hidden=lambda shape: (RECURRENT_UNITS,),
        default_hidden_text="64",
    ),
    "gru": Architecture(
        builder="recurrent:gru",
        summary="GRU layers: like LSTM with a quarter fewer weights",
        axes=(2,),
        samples="2 axes, (steps, channels)",
        default_hidden=lambda shape: (RECURRENT_UNITS,),
        default_hidden_text="64",
    ),
    "linear": Architecture(
        builder="linear:linear",
        summary="one layer to the code and one back, no activation: a plane, as PCA's",
        axes=None,
        samples="any shape, flattened",
        default_hidden=lambda shape: (),
        default_hidden_text="none",
        hidden_layers=(0, 0),
        tied=True,
        activations=False,
    ),
}
