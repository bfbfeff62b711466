"""Rounding a layer's weights to int8 so that its outputs, not its weights, move least.

Both formats quantize symmetrically per output channel. Weights that already lie on that grid pass
through their quantizers unchanged, so the rounding is done here, once for each format's grid.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgeae_runtime import Floats

from ..model.rebuild import RECURRENT, copy_layer, is_graph, rebuild
from ..source import Source
from .grid import LEVELS, SAFE_LEVELS, Grid, safe_grid, wide_grid

DAMPING = 0.01
"""Share of the mean diagonal that is added to it; keeps the inverse sane where inputs are always zero."""

MOST_PATCHES = 20_000
"""Most positions of a convolution that are sampled; more add nothing."""

_FORWARD_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D)
CONVOLUTIONS = (*_FORWARD_CONVOLUTIONS, keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose)
_ROUNDED_LAYERS = (keras.layers.Dense, *CONVOLUTIONS, *RECURRENT)


class _Part(NamedTuple):
    """Entries of a layer's weight that are multiplied with the same inputs."""

    weight: Any
    entries: tuple[slice, ...]
    channels: int
    """Axis of the output channels."""
    columns: Callable[[Any], Floats]
    """From what the layer is given to what the entries are multiplied with, (n, entries of a channel)."""


def round_weights(source: Source, scaled: Floats, *, safe: bool, keep: tuple[type, ...] = ()) -> Source:
    """Return the autoencoder with its layers' kernels rounded to the int8 grid.

    Dense, convolutional and recurrent layers; others keep their weights and are rounded to nearest later.

    Args:
        source: left as it is.
        scaled: calibration rows in scaled units, (n, *input shape of the encoder).
        safe: whether the grid is the one on which no sum overflows; see `edgeae_export.quantization.grid`.
        keep: classes of layers that will stay in float.
    """
    encoder, code = _round_layers(source.encoder, scaled, safe, keep)
    decoder, _ = _round_layers(source.decoder, code, safe, keep)
    return replace(source, encoder=encoder, decoder=decoder)


def round_kernel(kernel: Floats, inputs: Floats, grid: Grid) -> Floats:
    """Round a kernel to a grid, with compensation.

    Inputs are taken one after the other; the rounding error of each is made good by the weights that
    are still to come, as far as the calibration inputs are correlated: GPTQ, Frantar et al. 2022,
    section 3. The largest weight of a channel keeps its value, so the channel keeps its scale.

    Args:
        kernel: (inputs, channels) float32.
        inputs: what the layer was given, (n, inputs).
        grid: for these inputs and channels.

    Returns:
        A kernel each of whose entries is a whole multiple of its channel's step within the grid's levels.
    """
    weights: NDArray[np.float64] = kernel.astype(np.float64)
    hessian = inputs.astype(np.float64).T @ inputs
    diagonal = np.diag_indices(len(hessian))
    hessian[diagonal] += DAMPING * np.mean(hessian[diagonal]) or 1.0
    factor = np.linalg.cholesky(np.linalg.inv(hessian)).T

    rounded = np.empty_like(weights)
    for i, row in enumerate(weights):
        rounded[i] = np.clip(np.round(row / grid.step), grid.low[i], grid.high[i]) * grid.step
        weights[i:] -= np.outer(factor[i, i:], (row - rounded[i]) / factor[i, i])
    return rounded.astype(np.float32)


def _round_layers(model: Any, batch: Floats, safe: bool, keep: tuple[type, ...]) -> tuple[Any, Floats]:
    """Return the model with rounded copies of its layers, and what it gave for the batch before."""
    if not is_graph(model):
        return model, np.asarray(model(batch, training=False))
    copies: list[Any] = []

    def copy(layer: Any) -> Any:
        if not isinstance(layer, _ROUNDED_LAYERS) or isinstance(layer, keep):
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
        # all of a layer's scales are taken before any of its weights changes
        parts = [(part, _whole_grid(part, layer, safe)) for part in _parts(layer)]
        for part, (step, low, high) in parts:
            inputs = np.concatenate([part.columns(tf.convert_to_tensor(x)) for x in seen[layer.name]])
            kernel = _flat(part, part.weight.numpy()[part.entries])
            grid = Grid(step, *(_flat(part, caps[part.entries]) for caps in (low, high)))
            _assign(part, round_kernel(kernel, inputs, grid))
    return rounded, outputs


def _whole_grid(part: _Part, layer: Any, safe: bool) -> Grid:
    """Return the grid of a part's whole weight, the caps in the weight's own shape."""
    whole = part.weight.numpy()
    kernel = _flat(part, whole)
    if not safe:
        grid = wide_grid(kernel)
    else:  # ONNX Runtime's dynamic LSTM has one choice for all channels
        grid = safe_grid(kernel, most=SAFE_LEVELS if isinstance(layer, RECURRENT) else LEVELS)
    return Grid(grid.step, *(_shaped(part, caps, whole.shape) for caps in (grid.low, grid.high)))


def _flat(part: _Part, values: NDArray[Any]) -> NDArray[Any]:
    """Return a weight, or a part of it, as (entries, channels)."""
    last = np.moveaxis(values, part.channels, -1)
    return last.reshape(-1, last.shape[-1])


def _shaped(part: _Part, flat: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Undo `_flat`."""
    last = np.moveaxis(np.empty(shape, np.bool_), part.channels, -1)
    return np.moveaxis(flat.reshape(last.shape), -1, part.channels)


def _assign(part: _Part, flat: Floats) -> None:
    whole = part.weight.numpy()
    whole[part.entries] = _shaped(part, flat, whole[part.entries].shape)
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
    if isinstance(layer, _FORWARD_CONVOLUTIONS):
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
