"""The five autoencoders of the benchmarks: data, training, export. Everything is made from fixed seeds."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SEED = 0
FASHION = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
CHANNELS = 8
WINDOW, STRIDE = 60, 4


class Spec(NamedTuple):
    title: str
    data: str
    """What it is trained on, for the page."""
    values: Callable[[int], Any]
    """Returns n samples or, for windows, n readings; in raw units, float32."""
    count: int
    window: int | None
    settings: dict[str, Any] | None
    """Of `edgeae.TrainConfig`, or None for a model of our own that Keras trains."""


def fashion(count: int, size: int = 784) -> Any:
    """Return images of clothes, 0 to 255, (n, 784), or (n, 28, 28) where size is 28."""
    import gzip

    with gzip.open(FASHION) as file:
        file.read(16)
        images = np.frombuffer(file.read(count * 784), np.uint8)
    return images.reshape(-1, *((28, 28) if size == 28 else (784,))).astype(np.float32)


def machine_sound(count: int) -> Any:
    """Return five frames of 128 log-mel bands of a generated machine, (n, 640), in dB.

    The recordings that MLPerf Tiny uses (ToyCar of DCASE 2020, task 2) cannot be shipped; this is what
    they are turned into (16 kHz, frames of 1024, steps of 512, 128 mel bands), of a sound that is as much
    like a motor's as a benchmark needs: harmonics of a changing speed, resonances, pink noise.
    """
    rng = np.random.default_rng(SEED)
    rate, frame, step = 16_000, 1024, 512
    samples = (count + 4) * step + frame
    speed = 40 + 8 * np.sin(np.arange(samples) * 2 * np.pi / (rate * 3.7)) + 3 * _slow(rng, samples, rate)
    phase = 2 * np.pi * np.cumsum(speed) / rate
    load = 1 + 0.5 * _slow(rng, samples, rate)
    sound = sum(load * np.sin(k * phase + rng.uniform(0, 6)) / k**0.7 for k in range(1, 24))
    spectrum = np.fft.rfft(rng.normal(size=samples))
    sound = sound + 8 * np.fft.irfft(spectrum / np.sqrt(1 + np.arange(len(spectrum)) / 400), samples)
    frames = np.lib.stride_tricks.sliding_window_view(sound, frame)[::step][: count + 4]
    power = np.abs(np.fft.rfft(frames * np.hanning(frame), axis=1)) ** 2
    bands = 10 * np.log10(power @ _mel_filters(power.shape[1], rate).T + 1e-9)
    windows = np.lib.stride_tricks.sliding_window_view(bands, 5, axis=0)[:count]
    return np.ascontiguousarray(np.moveaxis(windows, -1, 1).reshape(len(windows), -1), np.float32)


def _slow(rng: Any, samples: int, rate: int) -> Any:
    """Return a signal between -1 and 1 that changes over seconds."""
    knots = rng.uniform(-1, 1, samples // rate + 3)
    return np.interp(np.arange(samples) / rate, np.arange(len(knots)), knots)


def _mel_filters(bins: int, rate: int, bands: int = 128) -> Any:
    """Return triangles whose corners are evenly spaced on the mel scale, (bands, bins)."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    hertz = np.linspace(0, rate / 2, bins)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    triangles = np.minimum((hertz - left) / (centre - left), (right - hertz) / (right - centre))
    return np.maximum(triangles, 0) + 1e-6  # the lowest bands are narrower than a bin


def machine_series(count: int) -> Any:
    """Return readings of 8 generated sensors that share three periodic causes, (n, 8)."""
    rng = np.random.default_rng(SEED)
    time_axis = np.arange(count)[:, np.newaxis]
    periods = np.array([23.0, 61.0, 410.0])
    causes = np.sin(2 * np.pi * time_axis / periods + rng.uniform(0, 6, 3))
    noise = 0.03 + 0.12 * (1 + np.sin(2 * np.pi * time_axis / 997)) * rng.uniform(
        0.5, 1.5, CHANNELS
    )  # grows with load
    mixed = causes @ rng.normal(size=(3, CHANNELS)) + noise * rng.normal(size=(count, CHANNELS))
    readings = np.array([1450, 0.6, 12, 55, 0.02, 230, 3.1, 101]) + mixed * [30, 0.1, 2, 6, 0.004, 5, 0.2, 1]
    return readings.astype(np.float32)


SPECS: dict[str, Spec] = {
    "dense": Spec(
        "dense 784-128-32-128-784",
        "Fashion-MNIST",
        fashion,
        60_000,
        None,
        {"arch": "dense", "hidden": (128,), "latent": 32, "epochs": 5},
    ),
    "mlperf": Spec(
        "MLPerf Tiny's anomaly detector: 640, 4 x 128 with BatchNorm, 8, mirrored",
        "log-mel bands of a generated machine sound",
        machine_sound,
        20_000,
        None,
        None,
    ),
    "conv2d": Spec(
        "conv2d 28x28, filters 16 and 32, code 32",
        "Fashion-MNIST",
        lambda count: fashion(count, 28),
        12_000,
        None,
        {"arch": "conv2d", "latent": 32, "epochs": 2},
    ),
    "conv1d": Spec(
        "conv1d, window 60x8, filters 16 and 32, code 16",
        "eight generated sensors with three common causes",
        machine_series,
        50_000,
        WINDOW,
        {"arch": "conv1d", "latent": 16, "scaler": "standard", "epochs": 4},
    ),
    "lstm": Spec(
        "LSTM, window 60x8, 32 units, code 16",
        "eight generated sensors with three common causes",
        machine_series,
        40_000,
        WINDOW,
        {"arch": "lstm", "hidden": (32,), "latent": 16, "scaler": "standard", "epochs": 4},
    ),
}


class Made(NamedTuple):
    """A model that `make` has made."""

    name: str
    folder: Path
    """With the ``bundle.edgeae``, ``autoencoder.keras`` and what the peers converted."""
    rows: Any
    """Held-out samples in raw units, float32, in the network's input shape."""
    scaler: Any

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle.edgeae"

    @property
    def model(self) -> Any:
        """The Keras model; its layers ``encoder`` and ``decoder`` are models themselves."""
        import keras

        return keras.saving.load_model(self.folder / "autoencoder.keras", compile=False)


def opened(name: str, cache: Path) -> Made:
    """Return a model that was made before."""
    import edgeae_runtime

    folder = cache / name
    scaler = edgeae_runtime.Bundle(folder / "bundle.edgeae").manifest.scaler
    return Made(name, folder, np.load(folder / "holdout.npy"), scaler)


def make(name: str, cache: Path, *, quick: bool) -> dict[str, Any]:
    """Train and export a model into ``cache``; return what it took."""
    import edgeae_export

    spec = SPECS[name]
    values = spec.values(spec.count // 5 if quick else spec.count)
    folder = cache / name
    shutil.rmtree(folder, ignore_errors=True)  # with what peers converted of an earlier model
    folder.mkdir(parents=True)
    if spec.settings is None:
        model, rows, scaler, training = _own_model(values, quick=quick)
        given = {"data": rows[:6_000], "scaler": scaler}
        exported: Any = model.get_layer("encoder"), model.get_layer("decoder")
    else:
        trained, training = _trained(values, spec, quick=quick)
        model, rows, scaler = trained.model, trained.held_out, trained.scaler
        given, exported = {"data": None}, folder / "run"
        trained.save(exported, force=True)
    rows = rows[:10_000]
    model.save(folder / "autoencoder.keras")
    np.save(folder / "holdout.npy", rows)
    np.save(folder / "row.npy", rows[:1])
    (folder / "scaler.json").write_text(json.dumps({"offset": scaler.offset, "gain": scaler.gain}))
    start = time.perf_counter()
    manifest = edgeae_export.export(exported, path=folder / "bundle.edgeae", force=True, **given)
    return {
        "parameters": int(model.count_params()),
        "export_s": time.perf_counter() - start,
        "training": training,
        "artifacts": {
            a.path: {
                "bytes": a.bytes,
                "recipe": a.recipe.name if a.recipe else None,
                "error_median": a.fidelity.error_median,
                "error_p99": a.fidelity.error_p99,
                "rank_correlation": a.fidelity.rank_correlation,
            }
            for a in manifest.artifacts
        },
    }


def _trained(values: Any, spec: Spec, *, quick: bool) -> tuple[Any, dict[str, Any]]:
    """Train with edgeae, then the same network for as many epochs with Keras's fit alone."""
    import keras

    import edgeae

    assert spec.settings is not None
    settings = {**spec.settings, **({"epochs": 2} if quick else {})}
    data = edgeae.load_data(values, window=spec.window, stride=STRIDE if spec.window else 1)
    clock = [time.perf_counter()]
    trained = edgeae.train(
        data, edgeae.TrainConfig(**settings), progress=lambda epoch, losses: clock.append(time.perf_counter())
    )
    ours = np.diff(clock)[1:]
    twin = keras.models.clone_model(trained.model)
    twin.compile(keras.optimizers.Adam(), "mse", jit_compile=False)
    scaled = trained.scaler.scale(np.asarray(data.values)).reshape(-1, *twin.input_shape[1:])
    held_out = len(trained.held_out)
    clock = []
    stamp = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: clock.append(time.perf_counter()))
    twin.fit(
        scaled[held_out:],
        scaled[held_out:],
        batch_size=trained.config.batch_size,
        epochs=settings["epochs"],
        validation_data=(scaled[:held_out], scaled[:held_out]),
        callbacks=[stamp],
        verbose=0,
    )
    training = {
        "epochs": settings["epochs"],
        "train_rows": len(scaled) - held_out,
        "edgeae_s": float(np.median(ours)),
        "keras_s": float(np.median(np.diff(clock))),
        "val_loss": trained.history["val_loss"][-1],
    }
    return trained, training


def _own_model(samples: Any, *, quick: bool) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Return MLPerf Tiny's anomaly detector, trained by Keras: a model that edgeae did not build."""
    import keras

    from edgeae_runtime import Scaler

    def blocks(values: Any, name: str, last: int) -> Any:
        given = inner = keras.Input((values,), name=f"{name}_input")
        for _ in range(4):
            inner = keras.layers.Dense(128)(inner)
            inner = keras.layers.ReLU()(keras.layers.BatchNormalization()(inner))
        return keras.Model(given, keras.layers.Dense(last)(inner), name=name)

    keras.utils.set_random_seed(SEED)
    size = samples.shape[1]
    encoder, decoder = blocks(size, "encoder", 8), blocks(8, "decoder", size)
    inputs = keras.Input((size,))
    model = keras.Model(inputs, decoder(encoder(inputs)), name="autoencoder")
    order = np.random.default_rng(SEED).permutation(len(samples))
    held_out, rest = samples[order[: len(order) // 5]], samples[order[len(order) // 5 :]]
    scaler = Scaler(
        kind="standard", offset=tuple(rest.mean(0).tolist()), gain=tuple((1 / rest.std(0)).tolist())
    )
    model.compile(keras.optimizers.Adam(), "mse", jit_compile=False)
    model.fit(scaler.scale(rest), scaler.scale(rest), batch_size=256, epochs=2 if quick else 12, verbose=0)
    return model, held_out, scaler, {}
