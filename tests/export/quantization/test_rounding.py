import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from edgeae_export.quantization.grid import safe_grid, wide_grid
from edgeae_export.quantization.rounding import round_kernel, round_weights

unhurried = settings(deadline=None)  # the machine may be busy
GRIDS = {"all levels": wide_grid, "no overflow": safe_grid}
each_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def round_wide(kernel, inputs):
    return round_kernel(kernel, inputs, wide_grid(kernel))


def plain(kernel):
    """Each weight to the nearest of 255 levels of its channel."""
    step = np.abs(kernel).max(axis=0) / 127
    return np.round(kernel / step) * step


def overflow(levels):
    """By how much the sum of two products leaves 16 bits, where activations are 255 at the most."""
    pairs = [a + b for i, a in enumerate(levels) for b in levels[i + 1 :]]
    return max((255 * abs(round(pair)) - 32_767 for pair in pairs if abs(round(pair)) > 128), default=0)


def correlated(rows, size, rank=4):
    """Inputs such as a network sees them: a few factors mixed, a little noise, nothing below zero."""
    rng = np.random.default_rng(3)
    mixed = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, size))
    return np.float32(np.maximum(mixed + 0.05 * rng.normal(size=(rows, size)), 0))


weights = (
    st.sampled_from([0.0]) | st.floats(2**-10, 2**10, width=32) | st.floats(-(2**10), -(2**-10), width=32)
)
shapes = st.tuples(st.integers(1, 6), st.integers(1, 5))


@each_grid
@unhurried
@given(data=st.data())
def test_every_channel_lies_on_its_grid_and_keeps_its_largest_weight(grid, data):
    kernel = data.draw(st_np.arrays(np.float32, shapes, elements=weights))
    inputs = data.draw(
        st_np.arrays(np.float32, (5, len(kernel)), elements=st.floats(-100, 100, width=32)), label="inputs"
    )
    rounded = round_kernel(kernel, inputs, grid(kernel))
    assert rounded.dtype == np.float32 and rounded.shape == kernel.shape
    largest = np.abs(kernel).max(axis=0)
    np.testing.assert_array_equal(np.abs(rounded).max(axis=0), largest)
    for channel in range(kernel.shape[1]):
        if not largest[channel]:
            assert not rounded[:, channel].any()
            continue
        place = np.abs(kernel[:, channel]).argmax()
        assert rounded[place, channel] == kernel[place, channel]
        levels = rounded[:, channel] / grid(kernel).step[channel]
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
        if grid is wide_grid:
            np.testing.assert_allclose(np.abs(levels).max(), 127)
        else:
            assert overflow(levels) == 0


def test_what_the_layer_gives_moves_less_than_half_as_much_as_by_plain_rounding():
    kernel = np.float32(np.random.default_rng(0).normal(size=(48, 16)))
    inputs, unseen = np.split(correlated(2000, 48), 2)
    right = unseen @ kernel
    by_plain = np.mean(np.square(unseen @ plain(kernel) - right))
    by_ours = np.mean(np.square(unseen @ round_wide(kernel, inputs) - right))
    assert by_plain > 0
    assert by_ours < 0.5 * by_plain


def test_without_correlation_it_is_plain_rounding():
    kernel = np.float32(np.random.default_rng(0).normal(size=(6, 4)))
    np.testing.assert_allclose(round_wide(kernel, np.eye(6, dtype=np.float32)), plain(kernel), rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 5])
def test_inputs_that_are_always_zero_are_rounded_plainly(rows):
    kernel = np.float32(np.random.default_rng(0).normal(size=(6, 4)))
    np.testing.assert_allclose(round_wide(kernel, np.zeros((rows, 6))), plain(kernel), rtol=1e-6)


def test_a_kernel_that_is_on_the_grid_already_stays_as_it_is():
    levels = np.random.default_rng(0).integers(-127, 128, (20, 7))
    levels[0] = [127, -127] * 3 + [127]
    kernel = np.float32(levels * np.float32(0.03125))  # whose multiples float32 holds exactly
    np.testing.assert_array_equal(round_wide(kernel, correlated(100, 20)), kernel)


def test_the_models_dense_kernels_are_rounded_on_what_each_is_given_and_the_source_is_left_alone(digits):
    source, rows = digits.source, digits.rows[:400]
    before = [np.copy(w) for model in (source.encoder, source.decoder) for w in model.get_weights()]
    scaled = source.scaler.scale(rows).reshape(len(rows), -1)
    rounded = round_weights(source, scaled, safe=False)

    after = [w for model in (source.encoder, source.decoder) for w in model.get_weights()]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)

    def layers(part):
        models = (part.encoder, part.decoder)
        return [x for m in models for x in m.layers if isinstance(x, keras.layers.Dense)]

    values = scaled  # what goes into each layer is what the unrounded ones give
    for old, new in zip(layers(source), layers(rounded), strict=True):
        expected = round_wide(old.kernel.numpy(), values)
        np.testing.assert_allclose(new.kernel.numpy(), expected, atol=1.1 * np.abs(expected).max() / 127)
        assert np.mean(new.kernel.numpy() == expected) > 0.99  # sums in another order may tip a level
        assert not np.array_equal(new.kernel, old.kernel)
        np.testing.assert_array_equal(new.bias, old.bias)
        values = np.asarray(old(values))
