"""How old an ONNX Runtime may be: 1.12 is the first that reads opset 17; Debian stable has 1.21."""

import json
import subprocess
import sys

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from edgeae_export.builder import Options
from edgeae_export.fidelity.limits import Limits
from edgeae_export.formats import onnx as formats_onnx
from edgeae_export.pipeline import export_source, open_source
from edgeae_export.quantization import onnx as quantization_onnx
from edgeae_export.quantization.recipes import AUTO

PRECISIONS = ("float32", "float16", "dynamic", "int8")
DOMAINS = {"": 17, "com.microsoft": 1}


def convolutional():
    parts = [layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"), layers.Flatten()]
    back = [layers.Dense(64, "relu"), layers.Reshape((4, 4, 4))]
    last = [layers.Conv2DTranspose(4, 3, strides=2, padding="same"), layers.Conv2D(1, 3, padding="same")]
    return keras.Sequential([keras.Input((8, 8, 1)), *parts, layers.Dense(6), *back, *last]), (8, 8, 1)


def recurrent(kind):
    def make():
        code = [layers.Dense(3), layers.RepeatVector(6)]
        back = [kind(8, return_sequences=True), layers.TimeDistributed(layers.Dense(2))]
        return keras.Sequential([keras.Input((6, 2)), kind(8), *code, *back]), (6, 2)

    return make


MODELS = {"conv": convolutional, "lstm": recurrent(layers.LSTM), "gru": recurrent(layers.GRU)}


@pytest.fixture(scope="module", params=MODELS)
def source(request):
    """An untrained autoencoder with rows: what is in the files does not depend on the weights."""
    keras.utils.set_random_seed(0)
    model, shape = MODELS[request.param]()
    return open_source(model, np.float32(np.random.default_rng(0).normal(size=(40, *shape))))


@pytest.mark.parametrize("role", ["encoder", "decoder", "scorer"])
def test_every_precision_is_of_opset_17_and_ir_version_8(source, role):
    rows = source.rows
    calibration = np.asarray(source.encoder(rows)) if role == "decoder" else rows
    exact = formats_onnx.convert(source, role)
    made = [exact, quantization_onnx.to_float16(exact)]
    for precision in ("int8", "dynamic"):
        for recipe in AUTO["onnx", precision]:
            made.append(quantization_onnx.quantize(exact, role, calibration, recipe))
    assert len({len(content) for content in made}) > 2
    for content in made:
        model = onnx.load_from_string(content)
        assert model.ir_version <= 8
        found = {opset.domain: opset.version for opset in model.opset_import}
        assert found.items() <= DOMAINS.items()


# --- in an environment of its own ------------------------------------------------------------------

PROGRAM = """
import json, sys
import numpy as np, onnxruntime

worst = {}
for folder in sys.argv[1:]:
    golden = np.load(f"{folder}/golden.npz")
    with open(f"{folder}/manifest.json") as file:
        artifacts = json.load(file)["artifacts"]
    for artifact in artifacts:
        session = onnxruntime.InferenceSession(
            f"{folder}/{artifact['path']}", providers=["CPUExecutionProvider"]
        )
        (given,) = session.get_inputs()
        rows = np.float32(golden[given.name])
        rows = rows.reshape(len(rows), *given.shape[1:])
        names = [output.name for output in session.get_outputs()]
        limit = 1 if artifact["precision"] == "dynamic" else len(rows)
        parts = [session.run(names, {given.name: rows[i : i + limit]}) for i in range(0, len(rows), limit)]
        for name, values in zip(names, map(np.concatenate, zip(*parts))):
            right = golden[f"{artifact['path']}:{name}"].reshape(values.shape)
            difference = float(np.abs(values - right).max() / np.abs(right).max())
            worst[f"{folder} {artifact['path']}"] = difference
print(json.dumps({"version": onnxruntime.__version__, "worst": worst}))
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The interpreter of an environment with ONNX Runtime 1.21 and numpy, nothing else."""
    folder = tmp_path_factory.mktemp("old") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps"]
    done = subprocess.run([*install, "onnxruntime==1.21.0", "numpy"], capture_output=True, text=True)
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip(f"pip cannot install onnxruntime 1.21 here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder / "bin/python"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the model explains:edgeae_runtime.errors.EdgeaeWarning")
def test_the_onnxruntime_of_debian_stable_gives_what_ours_gave(old, tmp_path):
    everything = dict.fromkeys(PRECISIONS, Limits(np.inf, -1.0, -1.0))  # hardly trained models pass no gate
    for name, make in MODELS.items():
        keras.utils.set_random_seed(0)
        model, shape = make()
        rows = np.float32(np.random.default_rng(0).normal(size=(40, *shape)))
        model.compile(keras.optimizers.Adam(0.01), "mse")
        model.fit(
            rows, rows, epochs=30, verbose=0
        )  # enough to know the rows at all, without which none is made
        made = open_source(model, rows)
        options = Options(formats=("onnx",), precisions=PRECISIONS, limits=everything)
        export_source(made, tmp_path / name, options)
    output = subprocess.run(
        [old, "-c", PROGRAM, *(str(tmp_path / name) for name in MODELS)], check=True, capture_output=True
    ).stdout
    found = json.loads(output)
    assert found["version"] == "1.21.0"
    assert len(found["worst"]) == len(MODELS) * len(PRECISIONS) * 3
    allowed = {"float32": 1e-4, "float16": 1e-2, "dynamic": 2e-2, "int8": 2e-2}
    for path, difference in found["worst"].items():
        assert difference <= allowed[path.rsplit("/", 1)[-1].split(".")[1]], path
