"""Rounding a layer's weights to int8 so that its outputs, not its weights, move least.

Both formats quantize symmetrically per output channel. Weights that already lie on that grid pass
through their quantizers unchanged, so the rounding is done here, once, for all of them.
"""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime._manifest import Floats

from ._source import Source

LEVELS = 127
DAMPING = 0.01
"""Share of the mean diagonal that is added to it; keeps the inverse sane where inputs are always zero."""


def round_weights(source: Source, scaled: Floats) -> Source:
    """Return the autoencoder with the kernel of each of its Dense layers rounded to the int8 grid.

    Args:
        source: left as it is.
        scaled: calibration rows in scaled units, (n, *input shape of the encoder).
    """
    encoder, decoder = _copy(source.encoder), _copy(source.decoder)
    code = _round_layers(encoder, scaled)
    _round_layers(decoder, code)
    return replace(source, encoder=encoder, decoder=decoder)


def round_kernel(kernel: Floats, inputs: Floats) -> Floats:
    """Round a kernel to the int8 grid of each output channel, with compensation.

    Inputs are taken one after the other; the rounding error of each is made good by the weights that
    are still to come, as far as the calibration inputs are correlated: GPTQ, Frantar et al. 2022,
    section 3. The largest weight of a channel keeps its value, so the channel keeps its scale.

    Args:
        kernel: (inputs, channels) float32.
        inputs: what the layer was given, (n, inputs).

    Returns:
        A kernel each of whose entries is a whole multiple, up to 127, of its channel's largest / 127.
    """
    weights: NDArray[np.float64] = kernel.astype(np.float64)
    largest = np.abs(weights).argmax(axis=0)
    channels = np.arange(weights.shape[1])
    top = weights[largest, channels]
    step = np.where(top == 0, 1.0, np.abs(top)) / LEVELS

    hessian = inputs.astype(np.float64).T @ inputs
    diagonal = np.diag_indices(len(hessian))
    hessian[diagonal] += DAMPING * np.mean(hessian[diagonal]) or 1.0
    factor = np.linalg.cholesky(np.linalg.inv(hessian)).T

    rounded = np.empty_like(weights)
    for i, row in enumerate(weights):
        levels = np.clip(np.round(row / step), -LEVELS, LEVELS)
        rounded[i] = np.where(largest == i, top, levels * step)
        weights[i:] -= np.outer(factor[i, i:], (row - rounded[i]) / factor[i, i])
    return rounded.astype(np.float32)


def _copy(model: Any) -> Any:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _round_layers(model: Any, batch: Floats) -> Floats:
    """Round the model's Dense kernels in place; return its outputs as they were before."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dense)]
    seen: dict[int, list[Any]] = {id(layer): [] for layer in layers}
    calls = {id(layer): layer.call for layer in layers}

    def spy(layer: Any) -> Any:
        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            seen[id(layer)].append(np.asarray(inputs).reshape(-1, inputs.shape[-1]))
            return calls[id(layer)](inputs, *args, **kwargs)

        return call

    for layer in layers:
        layer.call = spy(layer)
    outputs: Floats = np.asarray(model(batch, training=False))
    for layer in layers:
        layer.call = calls[id(layer)]
        if seen[id(layer)]:
            layer.kernel.assign(round_kernel(layer.kernel.numpy(), np.concatenate(seen[id(layer)])))
    return outputs
