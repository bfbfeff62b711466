"""Linear autoencoders: no hidden layer and no activation."""

from collections.abc import Sequence

import keras

from .dense import dense
from .layers import Layers


def linear(
    shape: tuple[int, ...],
    hidden: Sequence[int],
    latent: int,
    output_activation: str,
    *,
    layers: Layers | None = None,
) -> keras.Model:
    """Build a linear autoencoder, (n, size) to (n, size): one dense layer to the code and one back.

    With the squared error its best code spans the first ``latent`` principal components (Baldi & Hornik
    1989, "Neural networks and principal component analysis").

    Args:
        shape: of a sample, which is flattened.
        hidden: none.
        latent: units of the code.
        output_activation: ``linear``.
        layers: how layers are made, with a linear code.
    """
    layers = layers or Layers()
    assert not hidden and layers.code == output_activation == "linear"  # the settings' checks see to it
    return dense(shape, (), latent, output_activation, layers=layers)
