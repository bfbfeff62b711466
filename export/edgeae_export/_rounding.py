"""Rounding a layer's weights to int8 so that its outputs, not its weights, move least.

Both formats quantize symmetrically per output channel. Weights that already lie on that grid pass
through their quantizers unchanged, so the rounding is done here, once, for all of them.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgeae_runtime._manifest import Floats

from ._rebuild import copy_layer, is_graph, rebuild
from ._source import Source

LEVELS = 127
DAMPING = 0.01
"""Share of the mean diagonal that is added to it; keeps the inverse sane where inputs are always zero."""

MOST_PATCHES = 20_000
"""Positions of a convolution that are looked at; more add nothing."""

_ROUNDED = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D)


def round_weights(source: Source, scaled: Floats) -> Source:
    """Return the autoencoder with its layers' kernels rounded to the int8 grid.

    Dense layers and convolutions; others keep their weights and are rounded to nearest later.

    Args:
        source: left as it is.
        scaled: calibration rows in scaled units, (n, *input shape of the encoder).
    """
    encoder, code = _round_layers(source.encoder, scaled)
    decoder, _ = _round_layers(source.decoder, code)
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


def _round_layers(model: Any, batch: Floats) -> tuple[Any, Floats]:
    """Return the model with rounded copies of its layers, and what it gave for the batch before."""
    if not is_graph(model):
        return model, np.asarray(model(batch, training=False))
    copies: list[Any] = []

    def copy(layer: Any) -> Callable[..., Any]:
        if not isinstance(layer, _ROUNDED):
            kept: Callable[..., Any] = layer
            return kept
        copies.append(copy_layer(layer))
        new: Callable[..., Any] = copies[-1]
        return new

    rounded = rebuild(model, copy)
    seen: dict[str, list[Any]] = {layer.name: [] for layer in copies}
    originals = {layer.name: layer.call for layer in copies}

    def spy(name: str) -> Callable[..., Any]:
        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            seen[name].append(inputs)
            return originals[name](inputs, *args, **kwargs)

        return call

    for layer in copies:
        layer.call = spy(layer.name)
    outputs: Floats = np.asarray(rounded(batch, training=False))
    for layer in copies:
        layer.call = originals[layer.name]
        kernel = layer.kernel.numpy()
        inputs = np.concatenate([_columns(layer, values) for values in seen[layer.name]])
        flat = round_kernel(kernel.reshape(-1, kernel.shape[-1]), inputs)
        layer.kernel.assign(flat.reshape(kernel.shape))
    return rounded, outputs


def _columns(layer: Any, inputs: Any) -> Floats:
    """Return what each output position of a layer multiplies its kernel with, (n, kernel's inputs)."""
    values = tf.convert_to_tensor(inputs)
    if isinstance(layer, keras.layers.Dense):
        return np.asarray(values).reshape(-1, values.shape[-1])
    if len(values.shape) == 3:  # a series is an image of height one
        values = values[:, tf.newaxis]
    sizes, strides, rates = (
        [1, *(1,) * (2 - len(each)), *each, 1]
        for each in (layer.kernel_size, layer.strides, layer.dilation_rate)
    )
    patches = np.asarray(tf.image.extract_patches(values, sizes, strides, rates, layer.padding.upper()))
    patches = patches.reshape(-1, patches.shape[-1])
    return patches[:: -(-len(patches) // MOST_PATCHES)]
