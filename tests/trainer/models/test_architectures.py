"""The newest architectures on the whole way, by the commands: train, export in all precisions, score."""

import json

import keras
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from edgeae_runtime.cli.main import main

PRECISIONS = {"float32": 1e-4, "float16": 0.02, "dynamic": 0.1, "int8": 0.1}
"""With how much of the error an artifact may be off for a single sample."""
ENGINES = {"onnx": "onnxruntime", "tflite": "litert"}
LATENT = 6


def edgeae(*words):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module", params=["gru", "linear"])
def made(request, tmp_path_factory):
    """A folder with a run, its bundle, and the rows that it was trained on: four steps of eight channels."""
    folder = tmp_path_factory.mktemp(request.param)
    np.save(folder / "rows.npy", np.float32(load_digits().images[:, 2:6]))
    settings = ["--latent", LATENT, "--epochs", 12, "--batch-size", 32, "--learning-rate", 5e-3]
    small = ["--hidden", 16] if request.param == "gru" else []
    arch = ["--arch", request.param, *small]
    edgeae("train", folder / "rows.npy", "--out", folder / "x.run", *arch, *settings)
    every = ["--formats", ",".join(ENGINES), "--precisions", ",".join(PRECISIONS)]
    edgeae("export", folder / "x.run", "--out", folder / "x.edgeae", *every)
    return request.param, folder


@pytest.fixture(scope="module")
def by_keras(made):
    """The scaled rows (n, 32), and their errors (n,) by Keras and numpy."""
    folder = made[1]
    model = keras.saving.load_model(folder / "x.run" / "autoencoder.keras", compile=False)
    scaler = json.loads((folder / "x.run" / "run.json").read_text())["scaler"]
    offset, gain = (np.float32(scaler[part]) for part in ("offset", "gain"))
    scaled = (np.load(folder / "rows.npy") - offset) * gain
    copies = np.asarray(model(scaled.reshape(-1, *model.input_shape[1:]))).reshape(scaled.shape)
    return scaled.reshape(-1, 32), np.mean(np.square(np.float64(scaled) - copies), axis=(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_artifact_scores_as_keras_does(made, by_keras, kind, precision):
    _, folder = made
    words = ["--engine", ENGINES[kind], "--precision", precision]
    edgeae("score", folder / "x.edgeae", folder / "rows.npy", "-o", folder / "errors.npy", *words)
    np.testing.assert_allclose(
        np.median(np.load(folder / "errors.npy") / by_keras[1]), 1, atol=PRECISIONS[precision] / 10
    )
    np.testing.assert_allclose(
        np.load(folder / "errors.npy"), by_keras[1], rtol=5 * PRECISIONS[precision], atol=1e-7
    )


@pytest.mark.slow
def test_a_recurrence_stays_in_float_where_ranges_are_calibrated_and_a_linear_layer_does_not(made):
    arch, folder = made
    (path,) = (folder / "x.edgeae").glob("encoder.int8.onnx")
    constants = onnx.load(path).graph.initializer
    kernels = {c.data_type for c in constants if len(c.dims) == 2 and min(c.dims) > 1}
    kinds = onnx.TensorProto
    assert kernels == ({kinds.FLOAT, kinds.INT8} if arch == "gru" else {kinds.INT8})


@pytest.mark.slow
def test_a_linear_autoencoder_is_as_good_as_principal_components_and_no_better(made, by_keras):
    arch, _ = made
    rows, errors = by_keras
    components = PCA(LATENT).fit(rows)
    best = np.mean(np.square(rows - components.inverse_transform(components.transform(rows))))
    if arch == "linear":
        assert best < errors.mean() < 1.1 * best
    else:
        assert errors.mean() < np.var(rows, axis=0).mean()
