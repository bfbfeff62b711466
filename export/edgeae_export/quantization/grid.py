"""The int8 grid of a layer's weights: 127 levels a side, or so few that no processor's sums overflow.

On AVX2, and on AVX-512 without VNNI, ONNX Runtime multiplies unsigned activations with signed weights by
``vpmaddubsw``, which adds two products in 16 bits and saturates: 255 * (65 + 64) is more than 32,767. Two
products of opposite signs cannot overflow. Which weights meet depends on how a kernel lays them out, so here
no two of a sign in an output channel exceed 128 together: 64 levels a side at the least, 127 where one weight
stands out. TFLite's kernels and other processors add up in 32 bits.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import Floats

LEVELS = 127
"""Quantization levels of int8 on each side of zero."""
SAFE_LEVELS = 64
"""Levels with which any two weights may meet without saturation: 255 * (64 + 64) <= 32,767."""
GRID_TOLERANCE = 1e-3
"""Distance from a whole step, in steps, up to which a weight lies on its channel's grid."""


class Grid(NamedTuple):
    """Quantization grid of a kernel (entries, channels)."""

    step: NDArray[np.float64]
    """Step of each channel, (channels,); 1 where all its weights are zero."""
    low: NDArray[np.float64]
    """The least level of each weight, (entries, channels)."""
    high: NDArray[np.float64]
    """The highest one. A channel's largest weight has one level only, so that the channel keeps its scale."""


def wide_grid(kernel: Floats) -> Grid:
    """Return the grid with all levels of int8, for a kernel (entries, channels)."""
    levels = np.full(kernel.shape[1], LEVELS)
    caps = np.full(kernel.shape, float(LEVELS))
    return _grid(kernel, levels, caps, caps)


def safe_grid(kernel: Floats, *, most: int = LEVELS) -> Grid:
    """Return the finest grid on which no two weights of a sign exceed 128 together in a channel.

    Args:
        kernel: (entries, channels).
        most: levels on a side that are not to be exceeded, at least `SAFE_LEVELS`.
    """
    levels = safe_levels(kernel, most=most)
    scaled = kernel / _steps(kernel, levels)
    return _grid(kernel, levels, _caps(-scaled), _caps(scaled))


def safe_levels(kernel: Floats, *, most: int = LEVELS, shared: bool = False) -> NDArray[np.int64]:
    """Return how many levels a side the channels of a kernel (entries, channels) can have, (channels,).

    A channel that lies on a grid already is given the levels of that one.

    Args:
        kernel: the weights.
        most: levels that are not to be exceeded.
        shared: whether all channels have one scale.
    """
    largest = _largest(kernel, shared)
    found, on_grid = np.full(kernel.shape[1], SAFE_LEVELS), np.zeros(kernel.shape[1], bool)
    for levels in range(SAFE_LEVELS, most + 1):  # the last that fits stays
        exact = kernel * (levels / np.where(largest == 0, 1, largest))
        rounded = np.round(exact)
        fits = np.maximum(_two_largest(rounded), _two_largest(-rounded)) <= 2 * SAFE_LEVELS
        lies = np.abs(exact - rounded).max(axis=0) <= GRID_TOLERANCE
        if shared:
            fits[:], lies[:] = fits.all(), lies.all()
        fits &= lies | ~on_grid
        on_grid |= fits & lies
        found[fits] = levels
    return found


def scales(kernel: Floats, *, shared: bool = False) -> Floats:
    """Return the scale of each channel on the grid that cannot overflow, (channels,)."""
    return _steps(kernel, safe_levels(kernel, shared=shared), shared=shared).astype(np.float32)


def _grid(
    kernel: Floats, levels: NDArray[np.int64], lower: NDArray[np.float64], upper: NDArray[np.float64]
) -> Grid:
    """Return the grid of so many levels; ``lower`` and ``upper`` are caps below and above zero."""
    step = _steps(kernel, levels)
    low, high = -lower, upper.copy()
    largest, columns = np.abs(kernel).argmax(axis=0), np.arange(kernel.shape[1])
    low[largest, columns] = high[largest, columns] = np.round(kernel[largest, columns] / step)
    return Grid(step, low, high)


def _caps(side: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the highest level above zero of each weight, given all of them in steps."""
    first, columns = side.argmax(axis=0), np.arange(side.shape[1])
    top = np.round(side[first, columns])
    others = np.minimum(2 * SAFE_LEVELS - top, SAFE_LEVELS)
    caps: NDArray[np.float64] = np.broadcast_to(others, side.shape).copy()
    caps[first, columns] = np.maximum(top, others)
    return caps


def _steps(kernel: Floats, levels: NDArray[np.int64], *, shared: bool = False) -> NDArray[np.float64]:
    largest = _largest(kernel, shared)
    steps: NDArray[np.float64] = np.where(largest == 0, 1.0, largest / levels)
    return steps


def _largest(kernel: Floats, shared: bool) -> NDArray[np.float64]:
    largest = np.abs(kernel).max(axis=None if shared else 0)
    return np.broadcast_to(np.float64(largest), kernel.shape[1:])


def _two_largest(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the two largest levels above zero in each channel."""
    top = np.partition(levels, -2, axis=0)[-2:] if len(levels) > 1 else levels
    total: NDArray[np.float64] = np.maximum(top, 0).sum(axis=0)
    return total
