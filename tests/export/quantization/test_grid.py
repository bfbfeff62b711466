"""The finest grid of weights on which no processor's 16-bit sums of two products overflow."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from edgeae_export.quantization.grid import safe_grid, safe_levels, scales, wide_grid

kernels = st_np.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 4)),
    elements=st.sampled_from([0.0, 1.0, -1.0]) | st.floats(-8, 8, width=32),
)


def saturates(levels):
    """Whether two of these weights, with activations of 255, add up to more than 16 bits hold."""
    return any(not -32_768 <= 255 * (a + b) <= 32_767 for a, b in combinations(levels.astype(int), 2))


@settings(deadline=None)
@given(kernel=kernels, shared=st.booleans())
def test_rounded_to_nearest_on_it_no_two_weights_of_a_channel_overflow_and_one_level_more_would(
    kernel, shared
):
    scale = np.broadcast_to(scales(kernel, shared=shared), kernel.shape[1:])
    assert scale.dtype == np.float32 and (scale > 0).all()
    levels = np.round(kernel / np.float64(scale))
    assert not any(saturates(channel) for channel in levels.T)
    counts = safe_levels(kernel, shared=shared)
    assert ((counts >= 64) & (counts <= 127)).all()
    if not shared:
        for channel, count in zip(kernel.T, counts, strict=True):
            exact = channel / (np.float64(np.abs(channel).max()) or 1)
            if not np.allclose(exact * count, np.round(exact * count), atol=2e-3):
                assert all(saturates(np.round(exact * n)) for n in range(count + 1, 128))


@settings(deadline=None)
@given(kernel=kernels, data=st.data())
def test_whatever_levels_are_taken_between_its_caps_no_two_overflow(kernel, data):
    """Compensated rounding moves weights away from the nearest level, across zero too."""
    grid = safe_grid(kernel)
    assert (grid.low <= grid.high).all()
    taken = np.where(data.draw(st_np.arrays(np.bool_, kernel.shape)), grid.low, grid.high)
    assert not any(saturates(channel) for channel in taken.T)
    levels = np.round(kernel / grid.step)  # and none is kept from where it is
    assert ((grid.low <= levels) & (levels <= grid.high)).all()


def test_a_weight_that_stands_out_keeps_all_levels_and_a_pair_of_equal_ones_half():
    kernel = np.float32([[1, 1, 1, 1], [0.007, 1, -1, 0.503], [0, 0, 0.003, 0]])
    np.testing.assert_array_equal(safe_levels(kernel), [127, 64, 127, 85])
    np.testing.assert_array_equal(safe_levels(kernel, shared=True), [64] * 4)
    np.testing.assert_allclose(scales(kernel, shared=True), 1 / 64)


@pytest.mark.parametrize("count", [64, 65, 90, 127])
def test_a_channel_on_a_grid_keeps_that_grid_although_a_finer_one_would_fit(count):
    rng = np.random.default_rng(0)
    others = rng.integers(-(128 - count), 128 - count + 1, 50)
    channel = np.float32(np.append(others, count) * (0.7 / count))[:, np.newaxis]
    assert safe_levels(channel) == [count]
    np.testing.assert_allclose(scales(channel), 0.7 / count, rtol=1e-6)


def test_the_wide_grid_has_127_levels_on_each_side():
    grid = wide_grid(np.float32([[0.5, -2], [0.25, 1]]))
    np.testing.assert_allclose(grid.step, [0.5 / 127, 2 / 127])
    np.testing.assert_array_equal(grid.high, [[127, -127], [127, 127]])
    np.testing.assert_array_equal(grid.low, [[127, -127], [-127, -127]])
