"""From settings to Keras models: an `encoder`, a `decoder`, and both in a row as `autoencoder`.

All of them take and give scaled samples and have a flat code (n, latent). They consist of Keras's own
layers, so that a saved model loads wherever Keras is; `untie` makes it so for tied weights.
"""

import keras

from ..config import TrainConfig
from ..models.architectures import ARCHITECTURES
from ..models.layers import Layers


def build(shape: tuple[int, ...], config: TrainConfig) -> keras.Model:
    """Build an autoencoder, uncompiled, with Keras's own initial weights.

    Args:
        shape: of a sample, without the batch axis.
        config: complete settings.

    Returns:
        A functional model with the layers ``encoder`` and ``decoder``. It takes and gives (n, size) where
        the architecture flattens samples, and (n, *shape) elsewhere.
    """
    assert config.hidden is not None and config.latent is not None
    layers = Layers(l2=config.l2, max_norm=config.max_norm, code=_code_activation(config), tied=config.tied)
    output = "sigmoid" if config.loss == "bce" else "linear"
    builder = ARCHITECTURES[config.arch].load_builder()
    return builder(shape, config.hidden, config.latent, output, layers=layers)


def posterior(encoder: keras.Model) -> keras.Model:
    """Return the model of the code's log-variance: a layer beside the code, sharing what is before it."""
    code = encoder.get_layer("embedding")
    log_variance = keras.layers.Dense(code.units, name="log_variance", kernel_initializer="zeros")
    return keras.Model(encoder.input, log_variance(code.input), name="posterior")


def _code_activation(config: TrainConfig) -> str:
    """Sparse codes are zero or near it most of the time, which a linear code never is."""
    if config.objective != "sparse":
        return "linear"
    return "relu" if config.sparsity == "l1" else "sigmoid"
