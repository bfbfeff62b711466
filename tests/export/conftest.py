from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from sklearn.datasets import load_digits

from edgeae import TrainConfig, train
from edgeae.data.dataset import Data
from edgeae_export.builder import Options
from edgeae_export.pipeline import export_source

SMALL = TrainConfig(hidden=(32,), latent=8, epochs=12, batch_size=32, validation_split=0.25, seed=1)


@pytest.fixture(scope="session")
def digits():
    """An autoencoder of 8x8 images, and all 1,797 of them."""
    images = np.float32(load_digits().images)
    trained = train(Data(images, None), SMALL)
    return SimpleNamespace(trained=trained, source=trained.source, rows=images)


@pytest.fixture(scope="session")
def pump(other_units):
    """An autoencoder of named columns of very different units, and all of the table."""
    pixels = load_digits().data
    table = other_units(pixels[:, np.std(pixels, axis=0) > 0.5])
    names = tuple(f"sensor {i}" for i in range(table.shape[1]))
    trained = train(Data(table, names), SMALL)
    return SimpleNamespace(trained=trained, source=trained.source, rows=table)


@pytest.fixture(scope="session")
def export():
    """A function that exports a source to a folder."""

    def export_to(source, path, *, formats=("onnx", "tflite"), precisions=("float32", "int8"), force=False):
        return export_source(source, path, Options(formats=formats, precisions=precisions), force=force)

    return export_to


@pytest.fixture(scope="session")
def digits_bundle(export, digits, tmp_path_factory):
    """Its folder, with all artifacts."""
    folder = tmp_path_factory.mktemp("bundles") / "digits.edgeae"
    export(digits.source, folder)
    return folder


@pytest.fixture(scope="session")
def pump_bundle(export, pump, tmp_path_factory):
    """Its folder, with all artifacts."""
    folder = tmp_path_factory.mktemp("bundles") / "pump.edgeae"
    export(pump.source, folder)
    return folder


@pytest.fixture(scope="session", params=["digits", "pump"])
def case(request):
    """One of the two: the source, its rows and its bundle's folder."""
    made, folder = (request.getfixturevalue(f"{request.param}{part}") for part in ("", "_bundle"))
    return SimpleNamespace(source=made.source, rows=made.rows, folder=folder)


def _onnx(path, batch):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (tensor,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {tensor.name: batch}), strict=True))


def _tflite(path, batch):
    signature = Interpreter(str(path)).get_signature_runner()
    (name,) = signature.get_input_details()
    return signature(**{name: batch})


@pytest.fixture(scope="session")
def run():
    """A function that runs a model file on a batch with its engine alone; returns the tensors by name."""

    def run_file(path, batch):
        batch = np.ascontiguousarray(batch, dtype=np.float32)
        return {".onnx": _onnx, ".tflite": _tflite}[path.suffix](path, batch)

    return run_file


@pytest.fixture(scope="session")
def keras_says():
    """A function that has Keras's models, with numpy around them, judge raw rows: what is right."""

    def judge(source, rows):
        offset, gain = np.float32(source.scaler.offset), np.float32(source.scaler.gain)
        scaled = ((rows.astype(np.float32) - offset) * gain).reshape(len(rows), -1)
        code = np.asarray(source.encoder(scaled))
        copy = np.asarray(source.decoder(code))
        raw = copy.reshape(rows.shape) / gain.astype(np.float64) + offset
        error = np.mean(np.square(scaled.astype(np.float64) - copy), axis=1)
        return SimpleNamespace(scaled=scaled, embedding=code, copy=copy, reconstruction=raw, error=error)

    return judge


@pytest.fixture(scope="session")
def same_as(run, keras_says):
    """A function that gives the errors an artifact leads to, beside those of Keras, on raw rows.

    An encoder's code goes through Keras's decoder, a decoder is given Keras's code.
    """

    def compare(path, source, rows):
        right = keras_says(source, rows)
        role = path.name.partition(".")[0]
        flat = rows.reshape(len(rows), -1)
        found = run(path, right.embedding if role == "decoder" else flat)
        if role == "scorer":
            return found["error"].astype(np.float64), right.error
        if role == "encoder":
            copy = np.asarray(source.decoder(found["embedding"]))
        else:
            raw = found["reconstruction"].astype(np.float64).reshape(rows.shape)
            copy = ((raw - np.array(source.scaler.offset)) * np.array(source.scaler.gain)).reshape(
                len(rows), -1
            )
        return np.mean(np.square(right.scaled - copy), axis=1), right.error

    return compare


@pytest.fixture(scope="session")
def cosine(run, keras_says):
    """A function that gives the mean cosine of an artifact's embeddings with those of Keras."""

    def compare(path, source, rows):
        found = run(path, rows.reshape(len(rows), -1))["embedding"].astype(np.float64)
        right = keras_says(source, rows).embedding.astype(np.float64)
        return np.mean(
            np.sum(found * right, axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(right, axis=1)
        )

    return compare
