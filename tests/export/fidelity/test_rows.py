"""A model that scales inside is refused with a remedy, and the remedy gives its author's error."""

import functools
import re
import warnings

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers
from scipy.stats import spearmanr

import edgeae_export
from edgeae_runtime import DataError, Scaler, load
from edgeae_runtime.cli.main import main
from edgeae_runtime.errors import EdgeaeWarning

UNIT = np.tanh(np.random.default_rng(0).normal(size=(400, 3)) @ np.random.default_rng(1).normal(size=(3, 16)))
"""Rows between -1 and 1, of three causes."""
BYTES = np.float32((UNIT * 0.4 + 0.5) * 255).round()
COLUMNS = np.float32(UNIT * np.geomspace(0.01, 200, 16) + np.linspace(-100, 100, 16))
ONNX = {"formats": ("onnx",), "precisions": ("float32",)}


def trained(first, rows, target, last="linear"):
    keras.utils.set_random_seed(0)
    parts = [layers.Dense(12, "relu"), layers.Dense(4), layers.Dense(12, "relu"), layers.Dense(16, last)]
    model = keras.Sequential([keras.Input((16,)), first, *parts])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(rows, target, epochs=60, batch_size=100, verbose=0)
    return model


@functools.cache
def rescaling(scale, offset=0, last="sigmoid"):
    """A model of bytes that rescales inside and answers in its own units; trained once, changed by nobody."""
    first = layers.Rescaling(scale, offset, name="to_unit")
    return trained(first, BYTES, BYTES * scale + offset, last)


def refusal(model, rows, path, **settings):
    with pytest.raises(DataError) as caught:
        edgeae_export.export(model, rows, path, **ONNX, **settings)
    assert not path.exists()
    text = caught.value.spelled({"scaler": "--raw-range"})  # as the command says it
    assert text.startswith(
        "the model explains nothing of the variance of the calibration rows (its mean error"
    )
    assert "\n" not in text
    return text


def cut(model):
    return keras.Sequential([keras.Input(model.input_shape[1:]), *model.layers[1:]])


@pytest.mark.parametrize(
    ("scale", "offset", "last", "expected"),
    [(1 / 255, 0, "sigmoid", "0 255"), (1 / 127.5, -1, "tanh", "127.5 255")],
)
@pytest.mark.parametrize("kind", [layers.Rescaling, "lambda"])
def test_what_rescales_inside_is_refused_and_the_remedy_it_names_gives_the_authors_error(
    tmp_path, scale, offset, last, expected, kind
):
    target = BYTES * scale + offset
    model = rescaling(scale, offset, last)
    right = np.mean(np.square(target - np.asarray(model(BYTES))), axis=1)
    if kind == "lambda":  # which says nothing of itself
        given = keras.Input((16,))
        values = given * scale + offset
        for layer in model.layers[1:]:
            values = layer(values)
        model = keras.Model(given, values)
    text = refusal(model, BYTES, tmp_path / "x.edgeae")
    assert "so it rescales inside and answers in its own units; export it without that layer" in text
    low, high = map(float, re.search(r"and with --raw-range (\S+) (\S+)$", text).groups())
    if kind == "lambda":
        np.testing.assert_allclose([low, high], [float(v) for v in expected.split()], atol=12)
        return
    how = "keras.Sequential([keras.Input(model.input_shape[1:]), *model.layers[1:]])"  # as `cut` does
    assert text.endswith(f"layer 'to_unit' (of a Sequential: {how}) and with --raw-range {expected}")
    cut(model).save(tmp_path / "cut.keras")
    np.save(tmp_path / "rows.npy", BYTES)
    words = [
        "export",
        "cut.keras",
        "--data",
        "rows.npy",
        "--raw-range",
        *expected.split(),
        "--out",
        "x.edgeae",
    ]
    words = [str(tmp_path / w) if "." in w and w[0].isalpha() else w for w in words]
    done = CliRunner().invoke(main, [*words, "--formats", "onnx", "--precisions", "float32"])
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(load(tmp_path / "x.edgeae").score(BYTES), right, rtol=1e-3)


def test_what_normalizes_inside_is_refused_and_the_remedy_gives_the_authors_error(tmp_path):
    first = layers.Normalization()
    first.adapt(COLUMNS)
    target = np.asarray(first(COLUMNS))
    model = trained(first, COLUMNS, target)
    right = np.mean(np.square(target - np.asarray(model(COLUMNS))), axis=1)
    text = refusal(model, COLUMNS, tmp_path / "x.edgeae")
    assert "so it normalizes inside and answers in its own units" in text
    mean, variance = (np.asarray(found).ravel() for found in (first.mean, first.variance))
    scaler = Scaler(kind="standard", offset=tuple(mean.tolist()), gain=tuple((1 / variance**0.5).tolist()))
    edgeae_export.export(cut(model), COLUMNS, tmp_path / "x.edgeae", scaler=scaler, **ONNX)
    found = load(tmp_path / "x.edgeae").score(COLUMNS)
    assert spearmanr(found, right)[0] > 0.9999
    np.testing.assert_allclose(found, right, rtol=1e-2)


def test_what_scales_inside_and_back_again_is_exported_as_it_is(tmp_path):
    model = keras.Sequential([keras.Input((16,)), *rescaling(1 / 255).layers, layers.Rescaling(255)])
    edgeae_export.export(model, BYTES, tmp_path / "x.edgeae", **ONNX)
    right = np.mean(np.square(BYTES - np.asarray(model(BYTES))), axis=1)
    np.testing.assert_allclose(load(tmp_path / "x.edgeae").score(BYTES), right, rtol=1e-3)


def test_a_model_of_scaled_values_that_is_given_raw_ones_is_told_about_units(tmp_path):
    model = trained(layers.Identity(), BYTES / 255, BYTES / 255, "sigmoid")
    text = refusal(model, BYTES, tmp_path / "x.edgeae")
    assert text.endswith("or not in its units (--raw-range brings raw units to those)")
    edgeae_export.export(
        model,
        BYTES,
        tmp_path / "x.edgeae",
        scaler=Scaler(kind="minmax", offset=(0.0,), gain=(1 / 255,)),
        **ONNX,
    )


@pytest.fixture(scope="module")
def image_halves():
    """An encoder of images that rescales inside, and its decoder."""
    keras.utils.set_random_seed(0)
    images = BYTES.reshape(-1, 4, 4, 1)
    first = [
        layers.Rescaling(1 / 255, name="to_unit"),
        layers.Conv2D(4, 3, padding="same", activation="relu"),
    ]
    encoder = keras.Sequential([keras.Input((4, 4, 1)), *first, layers.Flatten(), layers.Dense(4)])
    decoder = keras.Sequential([keras.Input((4,)), layers.Dense(16, "sigmoid"), layers.Reshape((4, 4, 1))])
    whole = keras.Sequential([keras.Input((4, 4, 1)), encoder, decoder])
    whole.compile(keras.optimizers.Adam(0.02), "mse")
    whole.fit(images, images / 255, epochs=60, batch_size=100, verbose=0)
    return encoder, decoder


@pytest.mark.parametrize("kind", ["raw", "scaled already", "another unit", "noise"])
def test_an_encoder_and_a_decoder_of_images_are_looked_at_alike(image_halves, tmp_path, kind):
    """The remedy is named where it would help, and nowhere else."""
    images = BYTES.reshape(-1, 4, 4, 1)
    noise = np.random.default_rng(2).uniform(0, 255, images.shape)
    rows = {"raw": images, "scaled already": images / 255, "another unit": images * 100, "noise": noise}[kind]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", EdgeaeWarning)
        try:
            edgeae_export.export(image_halves, np.float32(rows), tmp_path / "x.edgeae", **ONNX)
            (text,) = (str(w.message) for w in told if issubclass(w.category, EdgeaeWarning))
        except DataError as error:
            text = error.spelled({"scaler": "--raw-range"})
    assert ("without that layer 'to_unit'" in text and text.endswith("--raw-range 0 255")) == (kind == "raw")
    assert ("they are unlike what it was trained on" in text) == (kind != "raw")


def test_in_python_the_remedy_is_a_scaler_as_one_writes_it():
    model = rescaling(1 / 127.5, -1, "tanh")
    with pytest.raises(DataError) as caught:
        edgeae_export.export(model, BYTES, "never.edgeae", **ONNX)
    (written,) = re.findall(r"and with scaler=(Scaler\(.*\))$", str(caught.value))
    scaler = eval(written, {"Scaler": Scaler})
    np.testing.assert_allclose(scaler.scale(np.array([[127.5, 255]])), [[0, 1]], atol=1e-5)


def test_on_the_command_line_the_refusal_is_one_line_and_exit_status_1(tmp_path):
    model = rescaling(1 / 255)
    model.save(tmp_path / "ae.keras")
    np.save(tmp_path / "rows.npy", BYTES)
    words = [tmp_path / "ae.keras", "--data", tmp_path / "rows.npy", "--out", tmp_path / "x.edgeae"]
    done = CliRunner().invoke(main, ["export", *map(str, words)])
    assert done.exit_code == 1
    assert [line for line in done.output.splitlines() if line.startswith("Error: the model explains nothing")]
    assert done.output.splitlines()[-1].endswith("and with --raw-range 0 255")
    assert not (tmp_path / "x.edgeae").exists()
