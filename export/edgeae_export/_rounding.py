"""Rounding a layer's weights to int8 so that its outputs, not its weights, move least.

Both formats quantize symmetrically per output channel. Weights that already lie on that grid pass
through their quantizers unchanged, so the rounding is done here, once, for all of them.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgeae_runtime._manifest import Floats

from ._rebuild import RECURRENT, copy_layer, is_graph, rebuild
from ._source import Source

LEVELS = 127
DAMPING = 0.01
"""Share of the mean diagonal that is added to it; keeps the inverse sane where inputs are always zero."""

MOST_PATCHES = 20_000
"""Positions of a convolution that are looked at; more add nothing."""

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D)
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose)
_ROUNDED = (keras.layers.Dense, *_CONVOLUTIONS, *_TRANSPOSED, *RECURRENT)


class _Part(NamedTuple):
    """Those entries of a layer's weight that are multiplied with the same inputs."""

    weight: Any
    entries: tuple[slice, ...]
    channels: int
    """Axis of the output channels."""
    columns: Callable[[Any], Floats]
    """From what the layer is given to what the entries are multiplied with, (n, entries of a channel)."""


def round_weights(source: Source, scaled: Floats, *, keep: tuple[type, ...] = ()) -> Source:
    """Return the autoencoder with its layers' kernels rounded to the int8 grid.

    Dense, convolutional and recurrent layers; others keep their weights and are rounded to nearest later.

    Args:
        source: left as it is.
        scaled: calibration rows in scaled units, (n, *input shape of the encoder).
        keep: classes of layers that will stay in float.
    """
    encoder, code = _round_layers(source.encoder, scaled, keep)
    decoder, _ = _round_layers(source.decoder, code, keep)
    return replace(source, encoder=encoder, decoder=decoder)


def round_kernel(kernel: Floats, inputs: Floats, limits: Floats | None = None) -> Floats:
    """Round a kernel to the int8 grid of each output channel, with compensation.

    Inputs are taken one after the other; the rounding error of each is made good by the weights that
    are still to come, as far as the calibration inputs are correlated: GPTQ, Frantar et al. 2022,
    section 3. The largest weight of a channel keeps its value, so the channel keeps its scale.

    Args:
        kernel: (inputs, channels) float32.
        inputs: what the layer was given, (n, inputs).
        limits: largest absolute weight of each channel, where the kernel is a part of a larger one.

    Returns:
        A kernel each of whose entries is a whole multiple, up to 127, of its channel's largest / 127.
    """
    weights: NDArray[np.float64] = kernel.astype(np.float64)
    largest = np.abs(weights).argmax(axis=0)
    channels = np.arange(weights.shape[1])
    top = weights[largest, channels]
    limit = np.abs(top) if limits is None else limits.astype(np.float64)
    largest[np.abs(top) < limit] = -1  # it is in another part
    step = np.where(limit == 0, 1.0, limit) / LEVELS

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


def _round_layers(model: Any, batch: Floats, keep: tuple[type, ...]) -> tuple[Any, Floats]:
    """Return the model with rounded copies of its layers, and what it gave for the batch before."""
    if not is_graph(model):
        return model, np.asarray(model(batch, training=False))
    copies: list[Any] = []

    def copy(layer: Any) -> Any:
        if not isinstance(layer, _ROUNDED) or isinstance(layer, keep):
            return layer
        copies.append(copy_layer(layer))
        return copies[-1]

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
        for part in _parts(layer):
            inputs = np.concatenate([part.columns(tf.convert_to_tensor(x)) for x in seen[layer.name]])
            _round_part(part, inputs)
    return rounded, outputs


def _round_part(part: _Part, inputs: Floats) -> None:
    whole = part.weight.numpy()
    last = np.moveaxis(whole, part.channels, -1)
    limits = np.abs(last).reshape(-1, last.shape[-1]).max(axis=0)
    kernel = np.moveaxis(whole[part.entries], part.channels, -1)
    flat = round_kernel(kernel.reshape(-1, kernel.shape[-1]), inputs, limits)
    whole[part.entries] = np.moveaxis(flat.reshape(kernel.shape), -1, part.channels)
    part.weight.assign(whole)


def _parts(layer: Any) -> list[_Part]:
    """Return the parts of a layer's weights; none where its kind of convolution is a rare one."""
    if isinstance(layer, keras.layers.Dense):
        return [_Part(layer.kernel, (), -1, _rows)]
    if isinstance(layer, RECURRENT):
        cell = layer.cell
        return [
            _Part(cell.kernel, (), -1, _rows),
            _Part(cell.recurrent_kernel, (), -1, lambda values: _rows(_states(layer, values))),
        ]
    if layer.data_format != "channels_last" or getattr(layer, "groups", 1) != 1:
        return []
    if isinstance(layer, _CONVOLUTIONS):
        return [_Part(layer.kernel, (), -1, lambda values: _patches(layer, values))]
    if any(rate != 1 for rate in layer.dilation_rate):
        return []
    return [
        _Part(layer.kernel, entries, -2, _windows(taps))
        for entries, taps in _phases(layer.kernel_size, layer.strides)
    ]


def _rows(values: Any) -> Floats:
    return np.asarray(values).reshape(-1, values.shape[-1])


def _states(layer: Any, values: Any) -> Any:
    """Return the states that a recurrent layer's steps start from, (n, steps, units)."""
    states = copy_layer(layer, return_sequences=True, return_state=False)(values)
    return tf.concat([tf.zeros_like(states[:, :1]), states[:, :-1]], axis=1)


def _patches(layer: Any, values: Any) -> Floats:
    """Return what each output position of a convolution multiplies its kernel with."""
    padding = layer.padding
    if padding == "causal":
        before = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
        values, padding = tf.pad(values, [[0, 0], [before, 0], [0, 0]]), "valid"
    return _extract(values, layer.kernel_size, layer.strides, layer.dilation_rate, padding)


def _phases(
    kernel: tuple[int, ...], strides: tuple[int, ...]
) -> list[tuple[tuple[slice, ...], tuple[int, ...]]]:
    """Return which taps of a transposed convolution meet in the same outputs, and how many, per axis.

    Such a layer is one ordinary convolution for each residue of the output's position modulo the stride,
    with every stride-th tap, the last one first.
    """
    axes = [
        [
            (slice(first + (count - 1) * stride, None, -stride), count)
            for first in range(min(stride, size))
            for count in [-(-(size - first) // stride)]
        ]
        for size, stride in zip(kernel, strides, strict=True)
    ]
    return [tuple(zip(*choice, strict=True)) for choice in product(*axes)]


def _windows(taps: tuple[int, ...]) -> Callable[[Any], Floats]:
    """Return what gives all windows of so many positions, beyond the edges too."""
    edges = [[0, 0], *([tap - 1, tap - 1] for tap in taps), [0, 0]]
    ones = (1,) * len(taps)
    return lambda values: _extract(tf.pad(values, edges), taps, ones, ones, "valid")


def _extract(
    values: Any,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    rates: tuple[int, ...],
    padding: str,
) -> Floats:
    """Return patches of a series (n, steps, channels) or an image (n, height, width, channels)."""
    if len(values.shape) == 3:  # a series is an image of height one
        values = values[:, tf.newaxis]
    sizes, steps, spread = ([1, *(1,) * (2 - len(each)), *each, 1] for each in (kernel, strides, rates))
    patches = np.asarray(tf.image.extract_patches(values, sizes, steps, spread, padding.upper()))
    patches = patches.reshape(-1, patches.shape[-1])
    return patches[:: -(-len(patches) // MOST_PATCHES)]
