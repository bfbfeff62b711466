"""What the architectures share: layers by the settings, and encoder and decoder in a row."""

from collections.abc import Callable, Sequence
from typing import Any

import keras


class Layers:
    """Makes layers that share their regularization."""

    def __init__(
        self, *, l2: float = 0.0, max_norm: float | None = None, code: str = "linear", tied: bool = False
    ) -> None:
        """Keep the settings; see `TrainConfig`.

        Args:
            l2: weight of the squared kernels.
            max_norm: of the weights that lead into one unit.
            code: activation of the code.
            tied: the decoder's kernels are the encoder's, transposed, where an architecture can do so.
        """
        self.l2, self.max_norm, self.code, self.tied = l2, max_norm, code, tied

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

    def recurrent(self, cell: type[keras.layers.Layer], units: int, *, sequences: bool) -> keras.layers.Layer:
        """Return a recurrent layer of a class that gives all steps or the last one."""
        options = self.options(0) | self.options(0, kernel="recurrent")
        return cell(units, return_sequences=sequences, **options)


def in_a_row(
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


def cut(small: tuple[int, ...], large: tuple[int, ...]) -> list[keras.layers.Layer]:
    """Return what cuts doubled axes to their size before they were halved."""
    surplus = [(0, 2 * a - b) for a, b in zip(small, large, strict=True)]
    if not any(after for _, after in surplus):
        return []
    return [keras.layers.Cropping1D(surplus[0]) if len(small) == 1 else keras.layers.Cropping2D(surplus)]
