"""What may be handed over: Keras models of every build, and what is told of those that are none."""

import json
import os
import subprocess
import sys
import textwrap

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import edgeae_export
from edgeae_export.errors import ModelError, RunError
from edgeae_export.fidelity.reference import Reference
from edgeae_export.model.halves import prepare_pair, split_model
from edgeae_export.model.rebuild import simplify, unroll
from edgeae_export.pipeline import open_source
from edgeae_runtime import DataError, Scaler, load
from edgeae_runtime.cli.main import main
from edgeae_runtime.errors import EdgeaeWarning

ROWS = np.float32(np.random.default_rng(0).normal(size=(60, 12)))
ACTIVATIONS = ["linear", "relu", "elu", "tanh", "sigmoid", "softplus", "gelu", "silu"]
FLOAT32 = {"formats": ("onnx",), "precisions": ("float32",)}


@pytest.fixture(autouse=True)
def repeatable():
    keras.utils.set_random_seed(3)


def fit_last(model, rows):
    """Make the last Dense layer, by least squares, know a little of the rows that an export calibrates on.

    A little, so that a code which hardly varies is not blown up together with its rounding.
    """
    last = next(layer for layer in reversed(model.layers) if isinstance(layer, layers.Dense))
    few = rows[: len(rows) // 2]
    code = np.asarray(keras.Model(model.inputs[0], last.input)(few), np.float64).reshape(len(few), -1)
    flat = few.reshape(len(few), -1)
    kernel = 0.02 * np.linalg.lstsq(code - code.mean(0), flat - flat.mean(0), rcond=1e-4)[0]
    last.set_weights([kernel, flat.mean(0) - code.mean(0) @ kernel])


def functional(shape=(12,)):
    given = keras.Input(shape)
    hidden = layers.Dense(8, activation="relu", name="wide")(given)
    code = layers.Dense(3, name="code")(hidden)
    return keras.Model(given, layers.Dense(12, name="back")(code), name="functional")


def sequential():
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.GaussianNoise(0.5),
            layers.Dense(8),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.5),
            layers.Dense(3, name="code"),
            layers.Dense(12),
        ]
    )


def part(given, *sizes, name):
    return keras.Sequential([keras.Input((given,)), *(layers.Dense(n, "tanh") for n in sizes)], name=name)


def nested():
    """Both halves have a layer of the same name, as they do when each was made by a script of its own."""
    given = keras.Input((12,))
    encoder = keras.Sequential([keras.Input((12,)), layers.Dense(8, name="a"), layers.Dense(3, name="b")])
    decoder = keras.Sequential([keras.Input((3,)), layers.Dense(8, name="a"), layers.Dense(12, name="b")])
    return keras.Model(given, decoder(encoder(given)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.encoder = part(12, 8, 3, name="e")
        self.decoder = part(3, 8, 12, name="d")

    def call(self, inputs):
        return self.decoder(self.encoder(inputs))


class Half(keras.Model):
    """Calls its layers, and has no graph of its own."""

    def __init__(self, *sizes):
        super().__init__()
        self.parts = [layers.Dense(size, "tanh") for size in sizes]

    def call(self, inputs):
        for each in self.parts:
            inputs = each(inputs)
        return inputs


def shaken(model):
    """With statistics and biases as training leaves them: none of them zero or one."""
    rng = np.random.default_rng(5)
    model.set_weights([np.float32(w + 0.3 * np.abs(rng.normal(size=w.shape))) for w in model.get_weights()])
    return model


# --- every build of model ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [functional, sequential, nested, Subclassed])
def test_a_model_is_split_at_its_bottleneck_and_says_the_same(make):
    model = shaken(make())
    expected = np.asarray(model(ROWS, training=False))
    source = open_source(model, ROWS)
    assert source.encoder.output_shape == (None, 3)
    assert source.decoder.input_shape == (None, 3)
    found = source.decoder(source.encoder(ROWS))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    kinds = {type(layer) for half in (source.encoder, source.decoder) for layer in half.layers}
    assert not kinds & {layers.Dropout, layers.GaussianNoise, layers.BatchNormalization}


def test_a_pair_is_taken_as_it_is(tmp_path):
    encoder, decoder = part(12, 8, 3, name="e"), part(3, 8, 12, name="d")
    source = open_source((encoder, decoder), ROWS)
    np.testing.assert_allclose(source.encoder(ROWS), encoder(ROWS), rtol=1e-6)
    np.testing.assert_allclose(source.decoder(encoder(ROWS)), decoder(encoder(ROWS)), rtol=1e-6)


def projection():
    """Two halves that keep eight of twelve directions: they know any rows without being trained."""
    kept = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 8)))[0]
    halves = [keras.Sequential([keras.Input((n,)), layers.Dense(m)]) for n, m in [(12, 8), (8, 12)]]
    halves[0].set_weights([kept, np.zeros(8)])
    halves[1].set_weights([kept.T, np.full(12, 0.01)])
    return halves


def test_a_pair_of_files_on_the_command_line(tmp_path):
    encoder, decoder = projection()
    encoder.save(tmp_path / "e.keras")
    decoder.save(tmp_path / "d.keras")
    np.save(tmp_path / "rows.npy", ROWS)
    out = tmp_path / "pair.edgeae"
    arguments = ["--encoder", tmp_path / "e.keras", "--decoder", tmp_path / "d.keras", "--out", out]
    arguments += ["--data", tmp_path / "rows.npy", "--formats", "onnx", "--precisions", "float32"]
    result = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert "3 faithful artifacts" in result.output
    device = load(out)
    assert device.manifest.latent_size == 8
    np.testing.assert_allclose(device.embed(ROWS), encoder(ROWS), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "given", [["--encoder", "e.keras"], ["ae.keras", "--encoder", "e.keras", "--decoder", "d.keras"], []]
)
def test_half_a_pair_or_a_pair_and_a_model_is_a_wrong_usage(given, tmp_path):
    result = CliRunner().invoke(main, ["export", *given, "--out", str(tmp_path / "x.edgeae")])
    assert result.exit_code == 2
    assert "name a MODEL, or both --encoder and --decoder" in result.output


@pytest.mark.parametrize("whole", [False, True], ids=["a pair", "in one model"])
def test_halves_without_a_graph_of_their_own_are_traced(whole):
    halves = Half(8, 3), Half(8, 12)
    model = Subclassed()
    model.encoder, model.decoder = halves
    source = open_source(model if whole else halves, ROWS)
    assert source.encoder.output_shape == (None, 3)
    np.testing.assert_allclose(source.decoder(source.encoder(ROWS)), model(ROWS), rtol=1e-5, atol=1e-6)
    with pytest.raises(ModelError, match=r"cannot be traced on samples of shape \(3,\): "):
        open_source((Half(8, 3), Refusing()), ROWS)


class Refusing(keras.Model):
    def call(self, inputs):
        raise ValueError("not these")


def test_halves_that_do_not_fit_are_told():
    with pytest.raises(ModelError, match=r"the encoder gives \(3,\), the decoder takes \(4,\); pass two"):
        open_source((part(12, 3, name="e"), part(4, 12, name="d")), ROWS)


def test_a_subclassed_model_without_halves_is_told():
    class Opaque(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ModelError, match=r"no graph to split .* pass both, with encoder and decoder"):
        split_model(Opaque())


# --- variational ---------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("edgeae_models_in")
class Sampling(layers.Layer):
    """As in Keras's own example."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        mean, log_var = inputs
        shape = keras.ops.shape(mean)
        noise = keras.random.normal(shape=shape, seed=self.seed_generator)
        return mean + keras.ops.exp(0.5 * log_var) * noise


def variational_encoder(outputs):
    given = keras.Input((12,))
    hidden = layers.Dense(8, activation="relu")(given)
    mean = layers.Dense(3, name="z_mean")(hidden)
    log_var = layers.Dense(3, name="z_log_var")(hidden)
    named = {"z_mean": mean, "z_log_var": log_var, "z": Sampling(name="z")([mean, log_var])}
    return keras.Model(given, [named[name] for name in outputs])  # a list, though it be of one


def mean_of(encoder):
    return keras.Model(encoder.input, encoder.get_layer("z_mean").output)


def test_of_a_variational_model_the_mean_is_exported(tmp_path):
    encoder, decoder = variational_encoder(["z"]), part(3, 8, 12, name="d")
    model = keras.Model(encoder.input, decoder(*encoder.output))
    assert np.ptp([model(ROWS[:1])[0, 0] for _ in range(5)]) > 0
    model.save(tmp_path / "vae.keras")
    source = open_source(tmp_path / "vae.keras", ROWS)
    np.testing.assert_allclose(source.encoder(ROWS), mean_of(encoder)(ROWS), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        source.decoder(source.encoder(ROWS)), decoder(mean_of(encoder)(ROWS)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "outputs", [["z_mean", "z_log_var", "z"], ["z_log_var", "z_mean"], ["z", "z_log_var", "z_mean"], ["z"]]
)
def test_of_an_encoder_with_several_outputs_the_mean_is_the_code(outputs):
    encoder = variational_encoder(outputs)
    taken, _ = prepare_pair(encoder, part(3, 12, name="d"))
    np.testing.assert_allclose(taken(ROWS), mean_of(encoder)(ROWS), rtol=1e-6)


def test_an_encoder_whose_outputs_do_not_tell_is_refused_with_their_names():
    given = keras.Input((12,))
    two = keras.Model(given, [layers.Dense(3, name="left")(given), layers.Dense(3, name="right")(given)])
    with pytest.raises(ModelError, match=r"has 2 outputs \(left, right\); pass one that gives"):
        prepare_pair(two, part(3, 12, name="d"))


def test_a_random_layer_whose_mean_is_none_of_its_inputs_is_named():
    @keras.saving.register_keras_serializable("edgeae_models_in")
    class Doubling(layers.Layer):
        def call(self, inputs):
            return 2 * inputs + keras.random.normal(keras.ops.shape(inputs))

    given = keras.Input((12,))
    code = Doubling(name="doubling")(layers.Dense(3)(given))
    with pytest.raises(ModelError, match="the layer 'doubling' gives something else at every call"):
        split_model(keras.Model(given, layers.Dense(12)(code)))


# --- where the bottleneck is ---------------------------------------------------------------------


def test_the_code_is_taken_after_what_only_reshapes_or_activates_it():
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(4),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Reshape((2, 2)),
            layers.Flatten(),
            layers.Dense(12),
        ]
    )
    encoder, _ = split_model(shaken(model))
    assert encoder.output_shape == (None, 4)
    assert float(np.min(encoder(ROWS))) == 0  # the activation is in it


def test_a_layer_named_is_where_it_is_split(tmp_path):
    functional().save(tmp_path / "ae.keras")
    source = open_source(tmp_path / "ae.keras", ROWS, latent_layer="wide")
    assert source.encoder.output_shape == (None, 8)
    assert float(np.min(source.encoder(ROWS))) == 0
    with pytest.raises(ModelError, match=r"no layer 'narrow'; its layers are .*wide, code, back"):
        open_source(tmp_path / "ae.keras", ROWS, latent_layer="narrow")


def with_skip():
    given = keras.Input((12,))
    first = layers.Dense(8, name="first")(given)
    narrow = layers.Dense(3, name="narrow")(first)
    back = layers.Dense(8, name="second")(narrow)
    joined = layers.Add(name="joined")([first, back])
    return keras.Model(given, layers.Dense(12, name="last")(joined))


def test_with_a_skip_connection_the_bottleneck_is_what_all_paths_cross():
    encoder, _ = split_model(with_skip(), "joined")
    assert encoder.output_shape == (None, 8)
    with pytest.raises(ModelError, match="a path runs past the layer 'narrow'; choose another"):
        split_model(with_skip(), "narrow")


def test_skip_connections_around_everything_are_told_with_the_layers():
    given = keras.Input((12,))
    code = layers.Dense(3, name="code")(given)
    joined = layers.Concatenate(name="joined")([layers.Dense(12, name="back")(code), given])
    with pytest.raises(ModelError) as caught:
        split_model(keras.Model(given, layers.Dense(12, name="last")(joined), name="unet"))
    assert str(caught.value) == (
        "unet: no tensor narrower than the input of 12 cuts every path from input to output (skip "
        "connections?); choose with latent_layer from: code (3,), back (12,), joined (24,)"
    )


def test_two_narrowest_layers_are_told_and_one_can_be_named(tmp_path):
    model = keras.Sequential(
        [keras.Input((12,)), *(layers.Dense(n, name=name) for n, name in [(3, "p"), (3, "q"), (12, "r")])]
    )
    with pytest.raises(ModelError, match=r"more than one narrowest layer; choose .* from: p, q$"):
        split_model(model)
    encoder, _ = split_model(model, "p")
    assert [layer.name for layer in encoder.layers][-1] == "p"
    model.save(tmp_path / "ae.keras")
    np.save(tmp_path / "rows.npy", ROWS)
    arguments = [tmp_path / "ae.keras", "--data", tmp_path / "rows.npy", "--out", tmp_path / "x.edgeae"]
    result = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert result.exit_code == 1
    assert "choose with --latent-layer from: p, q" in result.output
    assert not (tmp_path / "x.edgeae").exists()


# --- what is no autoencoder ----------------------------------------------------------------------


def test_a_model_with_another_output_shape_is_told(tmp_path):
    model = keras.Sequential([keras.Input((12,)), layers.Dense(3), layers.Dense(10)])
    with pytest.raises(DataError, match=r"gives \(10,\) for an input of \(12,\); an autoencoder gives back"):
        edgeae_export.export(model, ROWS, tmp_path / "x.edgeae", **FLOAT32)
    assert not list(tmp_path.iterdir())


def test_a_model_of_two_inputs_is_told():
    one, two = keras.Input((12,)), keras.Input((12,))
    model = keras.Model([one, two], layers.Dense(12)(layers.Add()([one, two])))
    with pytest.raises(ModelError, match="has 2 inputs and 1 outputs, an autoencoder has one of each"):
        split_model(model)


def test_rows_that_do_not_fit_and_a_free_axis_are_told():
    with pytest.raises(DataError, match=r"takes samples of shape \(12,\), the data have \(5,\)"):
        open_source(functional(), ROWS[:, :5])
    with pytest.raises(ModelError, match=r"input \(None, 12\) has a free axis; build it with a fixed shape"):
        open_source(functional((None, 12)), ROWS[:, np.newaxis])


def test_a_model_without_data_is_told():
    with pytest.raises(DataError, match="no held-out rows of its own; pass normal samples with data"):
        open_source(functional(), None)


@pytest.mark.parametrize("name", ["ae.h5", "ae.hdf5", "ae.keras"])
def test_a_file_that_is_missing_or_damaged_is_told_in_a_line(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(RunError, match=rf"{name}: no such model file$"):
        open_source(path, ROWS)
    path.write_bytes(b"not a model")
    with pytest.raises(
        RunError, match=rf"{name}: Keras cannot read it \(.*load it in Python and call"
    ) as told:
        open_source(path, ROWS)
    assert "\n" not in str(told.value)


def test_another_kind_of_file_is_told(tmp_path):
    (tmp_path / "ae.pt").write_bytes(b"x")
    with pytest.raises(RunError, match=r"unknown model format '\.pt'; use a \.keras, \.h5 or \.hdf5 file"):
        open_source(tmp_path / "ae.pt", ROWS)


class Shouting(layers.Layer):
    """Runs Python, which neither format can hold."""

    def call(self, inputs):
        found = tf.py_function(lambda values: values * 2, [inputs], tf.float32)
        return tf.ensure_shape(found, inputs.shape)


class Spelling(layers.Layer):
    """Goes through strings, which the formats' runtimes know nothing of."""

    def call(self, inputs):
        return tf.strings.to_number(tf.strings.as_string(inputs))


@pytest.mark.parametrize(
    ("kind", "layer", "name"),
    [
        ("onnx", Shouting, "shouting"),
        pytest.param("tflite", Shouting, "shouting", marks=pytest.mark.slow),
        pytest.param("tflite", Spelling, "spelling", marks=pytest.mark.slow),
        pytest.param("c", Spelling, "spelling", marks=pytest.mark.slow),
    ],
)
def test_a_layer_that_cannot_be_converted_is_named_before_anything_is_quantized(
    tmp_path, monkeypatch, kind, layer, name
):
    from edgeae_export.quantization import onnx, tflite

    for module in (onnx, tflite):
        monkeypatch.setattr(module, "quantize", None)
    given = keras.Input((12,))
    code = layers.Dense(3)(layer(name=name)(layers.Dense(8)(given)))
    model = keras.Model(given, layers.Dense(12)(code))
    fit_last(model, ROWS)
    hardly = pytest.warns(EdgeaeWarning, match=r"explains \d% of the variance")
    with hardly, pytest.raises(ModelError) as caught:
        edgeae_export.export(model, ROWS, tmp_path / "x.edgeae", formats=(kind,), precisions=("int8",))
    expected = f"{'tflite' if kind == 'c' else kind} cannot hold the layer '{name}' ({layer.__name__}): "
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


KINDS = {
    "bidirectional": ((6, 3), lambda: [layers.Bidirectional(layers.LSTM(5))]),
    "bidirectional gru": ((6, 3), lambda: [layers.Bidirectional(layers.GRU(5, return_sequences=True))]),
    "simple rnn": ((6, 3), lambda: [layers.SimpleRNN(5)]),
    "separable": ((8, 8, 2), lambda: [layers.SeparableConv2D(4, 3), layers.DepthwiseConv2D(3, strides=2)]),
    "causal": ((8, 2), lambda: [layers.Conv1D(4, 3, padding="causal", dilation_rate=2)]),
    "pooling": ((8, 8, 2), lambda: [layers.AveragePooling2D(2), layers.GlobalAveragePooling2D()]),
    "borders": ((6, 6, 2), lambda: [layers.ZeroPadding2D(1), layers.Conv2D(4, 3), layers.Cropping2D(1)]),
    "bilinear": ((4, 4, 2), lambda: [layers.UpSampling2D(2, interpolation="bilinear"), layers.Conv2D(3, 3)]),
    "over time": ((3, 6, 6, 1), lambda: [layers.TimeDistributed(layers.Conv2D(2, 3))]),
    "normalization": ((8,), lambda: [layers.Normalization(mean=[1.0] * 8, variance=[4.0] * 8)]),
    "denormalization": ((8,), lambda: [layers.Normalization(mean=1.0, variance=4.0, invert=True)]),
    "layer norm": ((8,), lambda: [layers.LayerNormalization(), layers.PReLU(), layers.LeakyReLU()]),
    "activations": ((8,), lambda: [layers.Dense(8, name) for name in (*ACTIVATIONS, "selu", "softmax")]),
}
"""Beyond what the matrix has: what else an encoder may be made of."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the model explains:edgeae_runtime.errors.EdgeaeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_these_kinds_of_layers_are_converted_too(kind, tmp_path):
    shape, parts = KINDS[kind]
    size = int(np.prod(shape))
    rows = np.float32(np.random.default_rng(0).normal(size=(40, *shape)))
    code = [layers.Flatten(), layers.Dense(4)]
    model = keras.Sequential([keras.Input(shape), *parts(), *code, layers.Dense(size), layers.Reshape(shape)])
    fit_last(model, rows)
    loose = dict.fromkeys(("float16", "dynamic", "int8"), edgeae_export.Limits(0.1, -1.0, 0.0))
    source = open_source(model, rows)
    expected = np.asarray(model(rows, training=False))
    np.testing.assert_allclose(source.decoder(source.encoder(rows)), expected, rtol=1e-5, atol=1e-5)
    folder, precisions = tmp_path / "x.edgeae", ("float32", "float16", "int8")
    edgeae_export.export(model, rows, folder, precisions=precisions, limits=loose, recipe="compensated")
    code = np.asarray(source.encoder(rows)).reshape(40, -1)
    for engine in ("onnxruntime", "litert"):
        exact = load(folder, engine=engine, precision="float32")
        np.testing.assert_allclose(exact.embed(rows), code, rtol=1e-4, atol=1e-5)
        rounded = load(folder, engine=engine, precision="int8")
        wrong = np.abs(rounded.embed(rows) - code)  # of some rows much: they are outside what 20 rows showed
        assert np.median(wrong) <= 0.01 * np.abs(code).max()


# --- units ---------------------------------------------------------------------------------------


def test_raw_units_go_in_where_the_model_saw_zero_to_one(tmp_path):
    model = projection()
    raw = np.round(ROWS * 100 + 20, 3)
    np.savetxt(tmp_path / "raw.csv", raw, delimiter=",", header=",".join("abcdefghijkl"), comments="")
    for half, name in zip(model, "ed", strict=True):
        half.save(tmp_path / f"{name}.keras")
    arguments = ["--encoder", tmp_path / "e.keras", "--decoder", tmp_path / "d.keras"]
    arguments += ["--data", tmp_path / "raw.csv", "--raw-range", 20, 120, "--out", tmp_path / "x.edgeae"]
    arguments += ["--formats", "onnx", "--precisions", "float32"]
    result = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    device = load(tmp_path / "x.edgeae")
    assert device.manifest.input.features == tuple("abcdefghijkl")
    assert device.manifest.scaler == Scaler(kind="minmax", offset=(20.0,), gain=(0.01,))
    copy = np.asarray(model[1](model[0](np.float32((raw - 20) / 100))))
    np.testing.assert_allclose(device.reconstruct(raw), copy * 100 + 20, rtol=1e-4)
    right = np.mean(np.square((raw - 20) / 100 - copy), axis=1)
    np.testing.assert_allclose(device.score(raw), right, rtol=1e-4)


def test_a_table_gives_a_bundle_its_names_and_a_run_its_columns_in_order(tmp_path, pump):
    names = tuple("abcdefghijkl")
    table = pd.DataFrame(ROWS, columns=names)
    edgeae_export.export(projection(), table, tmp_path / "x.edgeae", **FLOAT32)
    device = load(tmp_path / "x.edgeae")
    assert device.manifest.input.features == names
    np.testing.assert_array_equal(device.score(table[[*names[::-1]]]), device.score(ROWS))

    pump.trained.save(tmp_path / "pump.run")
    features = pump.source.input.features
    rows = pump.source.rows
    mixed = pd.DataFrame(rows, columns=features)[[*features[::-1]]].assign(label="ok")
    np.testing.assert_array_equal(open_source(tmp_path / "pump.run", mixed).rows, rows)
    with pytest.raises(DataError, match=r"^data: has no column 'sensor 3', found 'sensor "):
        open_source(tmp_path / "pump.run", mixed.drop(columns="sensor 3"))


def test_a_range_that_is_none_is_a_wrong_usage(tmp_path):
    functional().save(tmp_path / "ae.keras")
    np.save(tmp_path / "rows.npy", ROWS)
    arguments = [tmp_path / "ae.keras", "--data", tmp_path / "rows.npy", "--raw-range", 255, 0]
    result = CliRunner().invoke(main, ["export", *map(str, arguments), "--out", str(tmp_path / "x.edgeae")])
    assert result.exit_code == 2
    assert "--raw-range: 255 is not below 0" in result.output


# --- simplified and unrolled models say the same ---------------------------------------------------


dense_layers = st.tuples(st.just("dense"), st.integers(1, 6), st.sampled_from(ACTIVATIONS), st.booleans())
others = st.one_of(
    st.tuples(st.just("normalize"), st.booleans(), st.booleans()),
    st.tuples(st.just("activate"), st.sampled_from(ACTIVATIONS)),
    st.sampled_from([("drop",), ("noise",)]),
)


def make_layer(kind, *choices):
    if kind == "dense":
        units, activation, bias = choices
        return layers.Dense(units, activation=activation, use_bias=bias)
    if kind == "normalize":
        return layers.BatchNormalization(scale=choices[0], center=choices[1])
    if kind == "activate":
        return layers.Activation(*choices)
    return layers.Dropout(0.5) if kind == "drop" else layers.GaussianNoise(1.0)


@settings(deadline=None, max_examples=30)
@given(first=dense_layers, rest=st.lists(dense_layers | others, max_size=7))
def test_a_simplified_model_gives_what_the_model_gives(first, rest):
    parts = [make_layer(*choices) for choices in [first, *rest]]
    model = shaken(keras.Sequential([keras.Input((5,)), *parts]))
    rows = ROWS[:, :5]
    simple = simplify(model)
    np.testing.assert_allclose(
        simple(rows, training=False), model(rows, training=False), rtol=1e-5, atol=1e-5
    )
    assert not any(isinstance(x, (layers.Dropout, layers.GaussianNoise)) for x in simple.layers)
    for before, after in zip(simple.layers, simple.layers[1:], strict=False):
        if type(after) is layers.BatchNormalization:  # left only where something nonlinear stands before it
            assert not isinstance(before, layers.Dense) or before.activation is not keras.activations.linear


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: layers.Conv1D(4, 3), (9, 2)),
        (lambda: layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (9, 2)),
        (lambda: layers.Conv1DTranspose(4, 3, strides=2), (9, 2)),
        (lambda: layers.Conv2D(4, 3, strides=2, use_bias=False), (9, 8, 2)),
        (lambda: layers.Conv2DTranspose(4, 3, strides=2, padding="same"), (5, 4, 2)),
        (lambda: layers.Dense(4), (5, 3)),
    ],
)
def test_batch_normalization_is_folded_into_every_kind_of_linear_layer(layer, shape):
    model = shaken(keras.Sequential([keras.Input(shape), layer(), layers.BatchNormalization()]))
    rows = np.float32(np.random.default_rng(1).normal(size=(6, *shape)))
    simple = simplify(model)
    assert not any(isinstance(each, layers.BatchNormalization) for each in simple.layers)
    np.testing.assert_allclose(simple(rows), model(rows, training=False), rtol=1e-5, atol=1e-5)


def test_what_must_not_be_folded_is_not():
    given = keras.Input((5,))
    shared = layers.Dense(5)
    read_twice = shared(given)
    norm = layers.BatchNormalization()(read_twice)
    first = layers.BatchNormalization()(layers.Activation("relu")(given))
    model = shaken(keras.Model(given, layers.Add()([read_twice, norm, first])))
    simple = simplify(model)
    assert sum(isinstance(each, layers.BatchNormalization) for each in simple.layers) == 2
    np.testing.assert_allclose(simple(ROWS[:, :5]), model(ROWS[:, :5], training=False), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_an_unrolled_model_gives_what_the_model_gives(kind):
    model = keras.Sequential(
        [
            keras.Input((6, 2)),
            kind(5, return_sequences=True),
            kind(3),
            layers.RepeatVector(6),
            kind(5, return_sequences=True),
            layers.TimeDistributed(layers.Dense(2)),
        ]
    )
    rows = ROWS.reshape(-1, 6, 2)
    flat = unroll(shaken(model))
    assert all(layer.unroll for layer in flat.layers if isinstance(layer, kind))
    np.testing.assert_allclose(flat(rows), model(rows), rtol=1e-5, atol=1e-5)
    simple = simplify(model)
    assert not any(isinstance(layer, layers.TimeDistributed) for layer in simple.layers)
    np.testing.assert_allclose(simple(rows), model(rows), rtol=1e-5, atol=1e-5)


# --- Keras 2 files, made by somebody else's Keras --------------------------------------------------

OLD = """
    import sys
    import numpy as np
    import tf_keras
    from tf_keras import layers

    folder = sys.argv[1]
    tf_keras.utils.set_random_seed(0)
    rows = np.load(f"{folder}/rows.npy")

    def normalized(units):
        return [layers.Dense(units), layers.BatchNormalization(), layers.Activation("relu")]

    hidden = [part for units in (32, 16, 6, 16, 32) for part in normalized(units)]
    first = tf_keras.Sequential([tf_keras.Input((64,)), *hidden, layers.Dense(64)])
    first.compile(tf_keras.optimizers.legacy.Adam(2e-3, decay=1e-4), "mse", metrics=["mae"])
    first.fit(rows, rows, epochs=12, batch_size=32, verbose=0)
    first.save(f"{folder}/normalized.h5")

    parts = [layers.Dense(24, activation="relu", input_shape=(64,)), layers.Dropout(0.1), layers.Dense(6)]
    second = tf_keras.Sequential([*parts, layers.LeakyReLU(0.1), layers.Dense(64)])
    second.compile("rmsprop", "mse")
    second.fit(rows, rows, epochs=15, batch_size=32, verbose=0)
    second.save(f"{folder}/sequential.hdf5", save_format="h5")

    for name, model in (("normalized.h5", first), ("sequential.hdf5", second)):
        copy = model.predict(rows, verbose=0)
        np.save(f"{folder}/{name}.npy", np.mean(np.square(rows.astype("float64") - copy), axis=1))
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A folder with two models of Keras 2 and the errors that it computed."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("keras2")
    np.save(folder / "rows.npy", np.float32(load_digits().data / 16))
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OLD), str(folder)],
        check=True,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normalized.h5", "sequential.hdf5"])
def test_a_file_of_keras_2_exports_and_scores_as_keras_2_did(old, name, tmp_path):
    rows, right = np.load(old / "rows.npy"), np.load(old / f"{name}.npy")
    edgeae_export.export(old / name, rows, tmp_path / "old.edgeae", precisions=("float32",))
    for engine in ("onnxruntime", "litert"):
        found = load(tmp_path / "old.edgeae", engine=engine).score(rows)
        np.testing.assert_allclose(found, right, rtol=1e-5)


@pytest.mark.slow
def test_options_of_an_optimizer_that_nobody_knows_do_no_harm(old, tmp_path):
    path = tmp_path / "strange.h5"
    path.write_bytes((old / "normalized.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        training = json.loads(file.attrs["training_config"])
        training["optimizer_config"] = {
            "class_name": "Lookahead>Yogi",
            "config": {"amsgrad": "maybe", "k": 6},
        }
        training["loss"] = "my_own_loss"
        file.attrs["training_config"] = json.dumps(training)
    rows, right = np.load(old / "rows.npy"), np.load(old / "normalized.h5.npy")
    source = open_source(path, rows)
    np.testing.assert_allclose(Reference.of(source, rows).error, right, rtol=1e-5)
