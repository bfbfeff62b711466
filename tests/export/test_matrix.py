"""Every kind of autoencoder in every format and precision: exported, judged, and run as on a device."""

from types import SimpleNamespace

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

import edgeae_export
from edgeae_export.builder import Options
from edgeae_export.fidelity.limits import DEFAULT_LIMITS, MICRO_LIMITS
from edgeae_export.pipeline import export_source, open_source
from edgeae_runtime import Bundle, FidelityError, load, verify
from edgeae_runtime.engines.registry import load_engine

pytestmark = pytest.mark.slow

HELD_OUT = FRESH = 400

# --- data ----------------------------------------------------------------------------------------


def digits():
    """8x8 images of handwritten digits."""
    return np.float32(load_digits().images / 16)


def windows(steps, channels, noise=0.15):
    """Windows of a machine's vibration: harmonics of a speed that drifts, and noise that grows with load."""
    rng = np.random.default_rng(0)
    time = np.arange(4000)
    speed = 1 + 0.15 * np.sin(2 * np.pi * time / 1900) + 0.1 * np.sin(2 * np.pi * time / 733)
    load = 1 + 0.5 * np.sin(2 * np.pi * time / 1271)
    angle = 2 * np.pi * np.cumsum(speed) / 24
    waves = [load * np.sin(angle), 0.6 * np.cos(2 * angle + 1), 0.4 * load * np.sin(3 * angle + 2)]
    series = np.stack([*waves, 2 * speed, load], axis=1) @ rng.normal(size=(5, channels))
    series = (series - series.mean(axis=0)) / series.std(axis=0)
    series += noise * np.square(load)[:, np.newaxis] * rng.normal(size=series.shape)
    cut = np.lib.stride_tricks.sliding_window_view(series, steps, axis=0)[::2]
    return np.float32(rng.permutation(cut.transpose(0, 2, 1)))


# --- models --------------------------------------------------------------------------------------


def stack(shape, *parts):
    return keras.Sequential([keras.Input(shape), *parts])


def dense(units, activation="relu", **settings):
    return layers.Dense(units, activation=activation, **settings)


def normalized(units):
    return [layers.Dense(units), layers.BatchNormalization(), layers.ReLU()]


def make_dense():
    return stack((8, 8), layers.Flatten(), dense(64), dense(8, None), dense(64), dense(64, None), to((8, 8)))


def make_normalized():
    code = [layers.Dense(12), layers.BatchNormalization()]
    parts = [*normalized(128), *normalized(128), *code, *normalized(128), *normalized(128)]
    return stack((8, 8), layers.Flatten(), *parts, dense(64, None), to((8, 8)))


def make_conv1d():
    settings = {"padding": "same", "activation": "relu"}
    return stack(
        (60, 8),
        layers.Conv1D(32, 5, strides=2, **settings),
        layers.Conv1D(16, 5, strides=3, **settings),
        layers.Flatten(),
        dense(12, None),
        dense(160),
        to((10, 16)),
        layers.Conv1DTranspose(32, 5, strides=3, **settings),
        layers.UpSampling1D(2),
        layers.Conv1D(8, 5, padding="same"),
    )


def make_conv2d():
    settings = {"padding": "same", "activation": "relu"}
    return stack(
        (8, 8),
        to((8, 8, 1)),
        layers.Conv2D(16, 3, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(2),
        layers.Conv2D(16, 3, strides=2, **settings),
        layers.Flatten(),
        dense(8, None),
        dense(64),
        to((2, 2, 16)),
        layers.Conv2DTranspose(16, 3, strides=2, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.UpSampling2D(2),
        layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
        to((8, 8)),
    )


def make_recurrent(kind, steps, channels=8):
    def make():
        return stack(
            (steps, channels),
            kind(24),
            dense(8, None),
            layers.RepeatVector(steps),
            kind(24, return_sequences=True),
            layers.TimeDistributed(dense(channels, None)),
        )

    return make


@keras.saving.register_keras_serializable("edgeae_matrix")
class Sampling(layers.Layer):
    """As in Keras's own example of a variational autoencoder."""

    def call(self, inputs):
        mean, log_var = inputs
        return mean + keras.ops.exp(0.5 * log_var) * keras.random.normal(keras.ops.shape(mean))


def make_variational():
    images = keras.Input((64,))
    hidden = dense(64)(images)
    spread = {"kernel_initializer": "zeros", "bias_initializer": keras.initializers.Constant(-6)}
    code = Sampling()([dense(8, None)(hidden), dense(8, None, **spread)(hidden)])
    return keras.Model(images, dense(64, "sigmoid")(dense(64)(code)))


def make_denoising():
    clean_up = [layers.GaussianNoise(0.2), layers.Flatten(), dense(64), layers.Dropout(0.1)]
    return stack((8, 8), *clean_up, dense(8, None), dense(64), dense(64, None), to((8, 8)))


def to(shape):
    return layers.Reshape(shape)


MODELS = {
    "dense": (make_dense, digits, 30),
    "batchnorm": (make_normalized, digits, 30),
    "conv1d": (make_conv1d, lambda: windows(60, 8), 12),
    "conv2d": (make_conv2d, digits, 25),
    "lstm": (make_recurrent(layers.LSTM, 16), lambda: windows(16, 8, noise=0.3), 15),
    "gru": (make_recurrent(layers.GRU, 6), lambda: windows(6, 8, noise=0.3), 15),
    "vae": (make_variational, lambda: digits().reshape(-1, 64), 30),
    "denoising": (make_denoising, digits, 30),
}
PRECISIONS = ("float32", "float16", "dynamic", "int8")
ENGINES = {"onnx": "onnxruntime", "tflite": "litert"}
CELLS = [(kind, precision) for kind in ENGINES for precision in PRECISIONS]


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory):
    """One of the models, trained; its bundle of all that passes; and normal rows that neither has seen."""
    make, data, epochs = MODELS[request.param]
    keras.utils.set_random_seed(0)
    rows = data()
    model = make()
    model.compile(keras.optimizers.Adam(2e-3), "mse")
    train, held_out, fresh = np.split(rows, [-HELD_OUT - FRESH, -FRESH])
    model.fit(train, train, epochs=epochs, batch_size=32, verbose=0)
    source = open_source(model, held_out)
    folder = tmp_path_factory.mktemp("matrix") / f"{request.param}.edgeae"
    judged = []
    options = Options(formats=("onnx", "tflite", "c"), precisions=PRECISIONS)
    manifest = export_source(source, folder, options, keep_passing=True, report=judged.extend)
    code = np.asarray(source.encoder(fresh))
    copy = np.asarray(source.decoder(code)).reshape(fresh.shape)
    error = np.mean(np.square(np.float64(fresh) - copy).reshape(len(fresh), -1), axis=1)
    return SimpleNamespace(
        name=request.param,
        model=model,
        held_out=held_out,
        fresh=fresh,
        folder=folder,
        manifest=manifest,
        judged={j.artifact.path: j for j in judged},
        code=code,
        copy=copy,
        error=error,
    )


def test_every_cell_passes_its_gate_and_verifies(case):
    assert {name: j.violations for name, j in case.judged.items() if j.violations} == {}
    assert len(case.judged) == 3 * len(CELLS) + 2
    checks = verify(Bundle(case.folder))  # in OpenVINO too
    assert {c.artifact for c in checks} == {*case.judged, "autoencoder.int8.h"}
    assert {(c.artifact, c.engine, c.detail) for c in checks if c.status != "ok"} == set()
    assert {c.engine for c in checks if c.artifact.endswith(".onnx")} == {"onnxruntime", "openvino"}


@pytest.mark.parametrize(("kind", "precision"), CELLS)
def test_a_cell_runs_in_its_runtime_and_says_what_keras_says_of_fresh_rows(case, kind, precision):
    device = load(case.folder, engine=ENGINES[kind], precision=precision)
    found = device.detect(case.fresh)
    limits = DEFAULT_LIMITS[precision]
    change = np.abs(found.error - case.error) / case.error
    assert np.median(change) <= limits.error_median
    # rows that are not those that the limits were checked on, hence a little room
    assert spearmanr(found.error, case.error).statistic >= 1 - 1.5 * (1 - limits.rank_correlation)
    norms = np.linalg.norm(found.embedding, axis=1) * np.linalg.norm(case.code, axis=1)
    assert np.mean(np.sum(found.embedding * case.code, axis=1) / norms) >= limits.embedding_cosine
    np.testing.assert_allclose(device.score(case.fresh), found.error, rtol=1e-6)

    np.testing.assert_array_equal(found.anomaly, found.error > device.threshold.value)
    alarms = np.mean(case.error > case.manifest.reference.value)
    assert abs(np.mean(found.anomaly) - alarms) <= 0.01

    allowed = {"float32": 1e-4, "float16": 2e-2}.get(precision, 0.15) * np.abs(case.copy).max()
    np.testing.assert_allclose(device.reconstruct(case.fresh), case.copy, atol=allowed)
    one = device.detect(case.fresh[0])
    # a calibrated step may fall to the other side in a batch of one
    np.testing.assert_allclose(one.error, found.error[0], rtol=1e-4 if precision in PRECISIONS[:2] else 0.05)


def test_no_processors_16_bit_sums_can_overflow(case):
    """Read with the onnx package: of any two weights of a sign in an output channel, 255 * (a + b) fits."""
    files = sorted(path for path in case.folder.glob("*.onnx") if "float" not in path.name)
    assert len(files) == 6
    for path in files:
        graph = onnx.load(path).graph
        constants = {constant.name: constant for constant in graph.initializer}
        floats = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"}
        for node in graph.node:
            axis = {"Conv": 0, "ConvTranspose": 1}.get(node.op_type, -1)
            if node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute):
                axis = 0
            for name in node.input[1:3]:
                constant = constants.get(floats.get(name, name))
                if node.op_type == "DequantizeLinear" or constant is None or constant.data_type != 3:
                    continue
                weights = np.moveaxis(np.int64(onnx.numpy_helper.to_array(constant)), axis, -1)
                weights = np.sort(weights.reshape(-1, weights.shape[-1]), axis=0)
                assert (255 * weights[-2:].clip(min=0).sum(axis=0)).max() <= 32_767, (path, node.name)
                assert (255 * weights[:2].clip(max=0).sum(axis=0)).min() >= -32_768, (path, node.name)


def test_the_microcontrollers_model_is_int8_at_both_ends(case):
    for kind in ("tflite", "c"):
        fidelity = case.manifest.find("autoencoder", "int8", kind).fidelity
        assert not MICRO_LIMITS.violations(fidelity)
    engine = load_engine("litert", (case.folder / "autoencoder.int8.tflite").read_bytes(), "autoencoder", 1)
    code, copy = engine.run(np.zeros((2, *engine.shape), np.int8))
    assert code.dtype == copy.dtype == np.int8


def test_a_model_that_fits_more_closely_than_int8_can_say_is_refused_with_the_reason(tmp_path):
    """Principal components of a signal with hardly any noise: the error is next to nothing."""
    rows = windows(30, 4, noise=0.003).reshape(-1, 120)
    components = np.linalg.svd(rows[:1000] - rows[:1000].mean(axis=0), full_matrices=False)[2][:30]
    model = stack((120,), dense(30, None), dense(120, None))
    bias = rows[:1000].mean(axis=0)
    model.set_weights([components.T, -bias @ components.T, components, bias])
    settings = {"formats": ("onnx", "tflite", "c"), "precisions": ("int8",)}
    with pytest.raises(FidelityError) as caught:
        edgeae_export.export(model, rows[1000:], tmp_path / "no.edgeae", **settings)
    text = str(caught.value)
    assert "not written, 8 of 8 artifacts refused: " in text
    for name in ("encoder.int8.onnx", "scorer.int8.tflite", "autoencoder.int8.tflite", "autoencoder.int8.c"):
        assert f"{name}: the error moves by " in text
    assert "rank correlation" in text
    assert text.endswith(
        "; try another recipe, leave that precision out, or write the others with keep_passing=True"
    )
    assert not list(tmp_path.iterdir())
    edgeae_export.export(model, rows[1000:], tmp_path / "yes.edgeae", precisions=("float32",))


# --- the figures that are promised for dense models on real data -----------------------------------


def make_images(hidden):
    parts = [part for units in (128, 128) for part in hidden(units)]
    code = [layers.Dense(32), layers.BatchNormalization()] if hidden is normalized else [layers.Dense(32)]
    back = [part for units in (128, 128) for part in hidden(units)]
    return stack((784,), *parts, *code, *back, layers.Dense(784))


@pytest.mark.parametrize("hidden", [normalized, lambda n: [dense(n)]], ids=["batchnorm", "dense"])
def test_int8_of_fashion_mnist_moves_the_error_by_half_a_percent_at_most(hidden, fashion_mnist, tmp_path):
    images = np.float32(fashion_mnist[0][:8_000].reshape(-1, 784) / 255)
    fresh = np.float32(fashion_mnist[1][:4_000].reshape(-1, 784) / 255)
    keras.utils.set_random_seed(0)
    model = make_images(hidden)
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    model.fit(images[:-1_000], images[:-1_000], epochs=4, batch_size=128, verbose=0)
    settings = {"precisions": ("float32", "int8")}
    manifest = edgeae_export.export(model, images[-1_000:], tmp_path / "fashion.edgeae", **settings)
    for kind in ENGINES:
        sizes = [manifest.find("scorer", precision, kind).bytes for precision in ("int8", "float32")]
        assert sizes[0] <= 0.30 * sizes[1]
    right = np.mean(np.square(np.float64(fresh) - model.predict(fresh, verbose=0)), axis=1)
    for engine in ENGINES.values():
        device = load(tmp_path / "fashion.edgeae", engine=engine, precision="int8")
        found = device.detect(fresh)
        change = np.abs(found.error - right) / right
        assert np.median(change) <= 0.005 and np.quantile(change, 0.99) <= 0.025
        assert spearmanr(found.error, right).statistic >= 0.999
        assert abs(np.mean(found.anomaly) - np.mean(right > device.manifest.reference.value)) <= 0.01
