"""Which weights of a layer meet which inputs: what compensated rounding stands on."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from edgeae_export.pipeline import open_source
from edgeae_export.quantization.grid import safe_grid, wide_grid
from edgeae_export.quantization.rounding import _parts, round_kernel, round_weights

LAYERS = {
    "dense over time": (lambda: layers.Dense(4, use_bias=False), (5, 12)),
    "conv1d": (lambda: layers.Conv1D(4, 3, strides=2, padding="same", use_bias=False), (9, 12)),
    "causal": (lambda: layers.Conv1D(4, 3, padding="causal", dilation_rate=2, use_bias=False), (9, 12)),
    "conv2d": (lambda: layers.Conv2D(4, (3, 2), strides=2, padding="same", use_bias=False), (7, 8, 12)),
    "transposed 1d": (
        lambda: layers.Conv1DTranspose(4, 5, strides=3, padding="same", use_bias=False),
        (8, 12),
    ),
    "transposed 2d": (lambda: layers.Conv2DTranspose(4, 3, strides=(2, 1), use_bias=False), (5, 4, 12)),
    "wide strides": (lambda: layers.Conv1DTranspose(4, 2, strides=3, use_bias=False), (6, 12)),
}


def smooth(*shape):
    """Inputs whose entries hang together, as a network's do: few factors, each a walk, mixed."""
    rng = np.random.default_rng(0)
    walks = np.cumsum(rng.normal(size=(*shape[:-1], 3)), axis=1) @ rng.normal(size=(3, shape[-1]))
    return np.float32(walks + 0.05 * rng.normal(size=shape))


@pytest.fixture(params=LAYERS)
def layer(request):
    make, shape = LAYERS[request.param]
    keras.utils.set_random_seed(1)
    made = make()
    made.build((None, *shape))
    return made, shape


def products(layer, inputs):
    """What a layer's parts give, (n, channels) of each, in no order."""
    for part in _parts(layer):
        kernel = np.moveaxis(part.weight.numpy()[part.entries], part.channels, -1)
        yield part.columns(tf.constant(inputs)) @ kernel.reshape(-1, kernel.shape[-1])


def test_a_layers_outputs_are_the_products_of_its_parts(layer):
    made, shape = layer
    inputs = smooth(3, *shape)
    right = np.asarray(made(inputs)).reshape(-1, 4)
    right = right[np.any(right != 0, axis=1)]  # between wide strides nothing is multiplied
    found = np.concatenate(list(products(made, inputs)))
    distance = np.abs(right[:, np.newaxis] - found).max(axis=-1).min(axis=1)
    assert distance.max() < 1e-5 * np.abs(right).max()


def test_each_entry_is_in_one_part(layer):
    made, _ = layer
    counts = np.zeros(made.kernel.shape, int)
    for part in _parts(made):
        counts[part.entries] += 1
    assert (counts == 1).all()


def rounded(layer, shape, *, safe=False):
    """The layer as it is rounded in a model that holds it."""
    size = int(np.prod(shape))
    model = keras.Sequential([keras.Input(shape), layer])
    back = keras.Sequential(
        [keras.Input(model.output_shape[1:]), layers.Flatten(), layers.Dense(size), layers.Reshape(shape)]
    )
    source = open_source((model, back), smooth(40, *shape))
    after = round_weights(source, source.rows, safe=safe)
    (copy,) = [x for x in after.encoder.layers if type(x) is type(layer)]
    return copy


@pytest.mark.parametrize("safe", [False, True])
def test_the_rounded_kernel_is_on_the_grid_and_the_outputs_move_less_than_by_plain_rounding(layer, safe):
    made, shape = layer
    channels = -2 if "Transpose" in type(made).__name__ else -1
    before = np.moveaxis(made.kernel.numpy(), channels, -1)
    step = (safe_grid if safe else wide_grid)(before.reshape(-1, 4)).step
    plain = np.moveaxis(np.round(before / step) * step, -1, channels)
    copy = rounded(made, shape, safe=safe)
    levels = np.moveaxis(copy.kernel.numpy(), channels, -1) / step
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)
    levels = np.sort(np.round(levels).reshape(-1, 4), axis=0)
    if safe:
        assert levels[-2:].sum(axis=0).max() <= 128 and levels[:2].sum(axis=0).min() >= -128
        assert np.abs(levels).max(axis=0).min() >= 64
    else:
        np.testing.assert_array_equal(np.abs(levels).max(axis=0), 127)

    inputs = smooth(40, *shape)
    right, ours = np.asarray(made(inputs)), np.asarray(copy(inputs))
    made.kernel.assign(plain)
    assert np.mean(np.square(ours - right)) < 0.95 * np.mean(np.square(np.asarray(made(inputs)) - right))


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
@pytest.mark.parametrize("sequences", [True, False])
def test_a_recurrent_layer_is_rounded_on_its_inputs_and_on_the_states_before_each_step(kind, sequences):
    keras.utils.set_random_seed(1)
    made = kind(5, return_sequences=sequences)
    copy = rounded(made, (7, 3))
    whole = kind.from_config({**made.get_config(), "return_sequences": True})
    whole.build((None, 7, 3))
    whole.set_weights(made.get_weights())
    rows = smooth(40, 7, 3)
    states = np.asarray(whole(rows))
    before = np.concatenate([np.zeros_like(states[:, :1]), states[:, :-1]], axis=1).reshape(-1, 5)
    for name, columns in (("kernel", rows.reshape(-1, 3)), ("recurrent_kernel", before)):
        kernel = getattr(made.cell, name).numpy()
        expected = round_kernel(kernel, columns, wide_grid(kernel))
        found = getattr(copy.cell, name).numpy()
        assert np.mean(np.isclose(found, expected, atol=1e-6)) > 0.98  # sums in another order tip a level
        assert not np.array_equal(found, kernel)
    for name in ("kernel", "recurrent_kernel"):  # the one scale that a dynamic LSTM can be given
        levels = getattr(rounded(made, (7, 3), safe=True).cell, name).numpy()
        levels = levels / np.abs(levels).max(axis=0) * 64
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)


def test_rare_convolutions_are_left_as_they_are():
    for rare in (
        layers.Conv2D(4, 3, groups=2, data_format="channels_last"),
        layers.Conv1DTranspose(4, 3, dilation_rate=2),
    ):
        shape = (8, 8, 4) if isinstance(rare, layers.Conv2D) else (8, 3)
        copy = rounded(rare, shape)
        np.testing.assert_array_equal(copy.kernel, rare.kernel)
