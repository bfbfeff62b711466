import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeae.models.conv import conv2d, convolutional
from edgeae.models.dense import dense
from edgeae.models.linear import linear
from edgeae.models.recurrent import gru, lstm


def test_the_three_models_have_their_names_and_shapes():
    model = dense((20,), [12, 6], 3, "linear")
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    assert model.name == "autoencoder"
    assert (model.input_shape, model.output_shape) == ((None, 20), (None, 20))
    assert (encoder.input_shape, encoder.output_shape) == ((None, 20), (None, 3))
    assert (decoder.input_shape, decoder.output_shape) == ((None, 3), (None, 20))


@pytest.mark.parametrize(
    ("size", "hidden", "latent", "parameters"),
    [
        # weights and biases of each layer, written out
        (784, [128], 32, 784 * 128 + 128 + 128 * 32 + 32 + 32 * 128 + 128 + 128 * 784 + 784),
        (10, [], 4, 10 * 4 + 4 + 4 * 10 + 10),
        (10, [8, 6], 4, (10 * 8 + 8) + (8 * 6 + 6) + (6 * 4 + 4) + (4 * 6 + 6) + (6 * 8 + 8) + (8 * 10 + 10)),
    ],
)
def test_the_parameters_are_as_many_as_counted_by_hand(size, hidden, latent, parameters):
    assert dense((size,), hidden, latent, "linear").count_params() == parameters


def test_the_decoder_mirrors_the_encoder():
    model = dense((20,), [12, 6], 3, "sigmoid")

    def layers(name):
        found = [x for x in model.get_layer(name).layers if isinstance(x, keras.layers.Dense)]
        return [(layer.units, layer.activation.__name__) for layer in found]

    assert layers("encoder") == [(12, "relu"), (6, "relu"), (3, "linear")]
    assert layers("decoder") == [(6, "relu"), (12, "relu"), (20, "sigmoid")]


@pytest.mark.parametrize("activation", ["linear", "sigmoid"])
def test_the_whole_is_decoder_after_encoder_and_both_are_this_arithmetic(activation):
    model = dense((5,), [4], 2, activation)
    rng = np.random.default_rng(0)
    w1, b1, w2, b2, w3, b3, w4, b4 = weights = [np.float32(rng.normal(size=w.shape)) for w in model.weights]
    model.set_weights(weights)
    x = np.float32(rng.normal(size=(7, 5)))
    code = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    output = np.maximum(code @ w3 + b3, 0) @ w4 + b4
    if activation == "sigmoid":
        output = 1 / (1 + np.exp(-output))
    np.testing.assert_allclose(model.get_layer("encoder")(x).numpy(), code, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model(x).numpy(), output, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 21), min_size=1, max_size=2), st.integers(1, 3), st.integers(1, 3))
def test_a_convolutional_model_gives_back_whatever_size_it_takes(axes, channels, layers):
    shape = (*axes, channels)
    model = convolutional(shape, [3, 4, 2][:layers], 2, "linear", rank=len(axes))
    assert model.get_layer("encoder").output_shape == (None, 2)
    assert model(np.zeros((2, *shape), np.float32)).shape == (2, *shape)


def test_an_image_without_a_channel_axis_keeps_its_shape():
    model = conv2d((9, 7), [4], 2, "sigmoid")
    assert (model.input_shape, model.output_shape) == ((None, 9, 7), (None, 9, 7))
    outputs = np.asarray(model(np.float32(np.random.default_rng(0).normal(size=(5, 9, 7)))))
    assert outputs.min() > 0 and outputs.max() < 1


@pytest.mark.parametrize(
    ("build", "layer", "gates"), [(lstm, keras.layers.LSTM, 4), (gru, keras.layers.GRU, 3)]
)
def test_the_recurrent_decoder_mirrors_the_encoder_and_its_code_is_flat(build, layer, gates):
    model = build((12, 3), [8, 5], 2, "linear")

    def recurrent(name):
        return [x for x in model.get_layer(name).layers if isinstance(x, layer)]

    units = [[x.units for x in recurrent(name)] for name in ("encoder", "decoder")]
    assert units == [[8, 5], [5, 8]]
    assert recurrent("encoder")[0].cell.kernel.shape == (3, gates * 8)
    assert model.get_layer("encoder").output_shape == (None, 2)
    assert model.output_shape == (None, 12, 3)


def test_a_linear_model_is_two_products_whatever_its_samples_shape():
    model = linear((3, 5), (), 2, "linear")
    rng = np.random.default_rng(0)
    w1, b1, w2, b2 = weights = [np.float32(rng.normal(size=w.shape)) for w in model.weights]
    model.set_weights(weights)
    x = np.float32(rng.normal(size=(7, 15)))
    np.testing.assert_allclose(model.get_layer("encoder")(x).numpy(), x @ w1 + b1, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model(x).numpy(), (x @ w1 + b1) @ w2 + b2, rtol=1e-5, atol=1e-5)
