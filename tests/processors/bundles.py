"""What the processors are compared on: small bundles, and the files that a gate has to choose from.

A bundle of every kind of network and objective in every format and precision; and of two networks the scorer
that each recipe gives, good or bad.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from edgeae import TrainConfig, load_data, train
from edgeae_export import export
from edgeae_export.builder import ArtifactBuilder, Options
from edgeae_export.pipeline import open_source
from edgeae_export.quantization.recipes import AUTO, BY_NAME_ONLY
from edgeae_runtime import Scaler

PRECISIONS = ("float32", "float16", "dynamic", "int8")
STEPS, CHANNELS = 6, 3
GIVEN = 24  # rows, or windows, to be run on the device
KINDS: dict[str, dict[str, Any]] = {
    "dense": {"hidden": (32,), "latent": 8},
    "denoising": {"hidden": (32,), "latent": 8, "objective": "denoising"},
    "sparse": {"hidden": (32,), "latent": 8, "objective": "sparse"},
    "contractive": {"hidden": (32,), "latent": 8, "objective": "contractive"},
    "variational": {"hidden": (32,), "latent": 8, "objective": "variational"},
    "conv1d": {"arch": "conv1d", "hidden": (8, 16), "latent": 6},
    "conv2d": {"arch": "conv2d", "hidden": (8, 16), "latent": 8},
    "lstm": {"arch": "lstm", "hidden": (12,), "latent": 6},
    "batchnorm": {},
    "gru": {},
}


CANDIDATES = ("dense", "conv1d")


def make_candidates(kind: str, folder: str | Path) -> None:
    """Write each recipe's scorer into ``KIND.candidates``, with rows and what Keras says of them.

    `make` is called before.
    """
    folder = Path(folder)
    builder = ArtifactBuilder(open_source(folder / f"{kind}.run", None), Options())
    out = folder / f"{kind}.candidates"
    out.mkdir()
    np.save(out / "rows.npy", builder.rows)
    np.savez(out / "keras.npz", error=builder.reference.error, embedding=builder.reference.embedding)
    for table in (AUTO, BY_NAME_ONLY):
        for (file_format, precision), recipes in table.items():
            for recipe in recipes:
                name = f"{recipe.name}.{precision}.{file_format}"
                (out / name).write_bytes(builder._quantized("scorer", file_format, recipe))


def make(kind: str, folder: str | Path) -> None:
    """Train, write ``KIND.edgeae`` with every artifact, and ``KIND.npy`` with what the device is to score."""
    folder = Path(folder)
    series = kind in ("conv1d", "lstm", "gru")
    values = vibrations() if series else np.float32(load_digits().images)
    given = GIVEN + STEPS - 1 if kind in ("conv1d", "lstm") else GIVEN
    bundle = folder / f"{kind}.edgeae"
    settings: dict[str, Any] = {"precisions": PRECISIONS, "keep_passing": True}
    if KINDS[kind]:
        np.save(folder / f"{kind}.train.npy", values[given:])
        data = load_data(folder / f"{kind}.train.npy", window=STEPS if series else None)
        train(data, TrainConfig(epochs=12, seed=1, **KINDS[kind])).save(folder / f"{kind}.run")
        export(folder / f"{kind}.run", None, bundle, **settings)
    else:  # a Keras model of somebody else's
        if series:
            values = np.lib.stride_tricks.sliding_window_view(values, STEPS, axis=0).transpose(0, 2, 1)
        values = values if series else values.reshape(len(values), -1)
        offset, spread = (np.float32(f(values, axis=(0, 1))).reshape(-1) for f in (np.mean, np.std))
        model = _train_keras({"batchnorm": _normalized, "gru": _gated}[kind], (values - offset) / spread)
        scaler = Scaler(kind="standard", offset=tuple(offset.tolist()), gain=tuple((1 / spread).tolist()))
        export(model, values[given : given + 400], bundle, scaler=scaler, **settings)
    np.save(folder / f"{kind}.npy", values[:given])


def vibrations() -> Any:
    """Return readings of three noisy waves, (1500, 3)."""
    rng = np.random.default_rng(0)
    angle = np.arange(1500)[:, np.newaxis] * np.array([0.31, 0.23, 0.11])
    series = np.sin(angle) + 0.3 * rng.normal(size=angle.shape)
    return np.float32(series * np.array([0.02, 3.0, 150.0]) + np.array([1.0, -40.0, 900.0]))


def _train_keras(build: Callable[[], list[Any]], values: Any) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(values.shape[1:]), *build()])
    model.compile("adam", "mse")
    model.fit(values, values, epochs=12, batch_size=64, verbose=0)
    return model


def _normalized() -> list[Any]:
    """Return MLPerf Tiny's anomaly detector, smaller: dense layers with BatchNorm before each ReLU."""
    parts: list[Any] = []
    for units in (48, 48, 8, 48, 48):
        parts += [layers.Dense(units), layers.BatchNormalization(), layers.ReLU()]
    return [*parts, layers.Dense(64)]


def _gated() -> list[Any]:
    copy = layers.GRU(12, return_sequences=True)
    return [layers.GRU(12), layers.Dense(6), layers.RepeatVector(STEPS), copy, layers.Dense(CHANNELS)]
