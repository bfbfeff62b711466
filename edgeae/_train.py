"""Fitting: data in, a trained autoencoder out, and the run folder that keeps it."""

import csv
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_export._source import HOLDOUT_NAME, MODEL_NAME, RUN_NAME, Run, Source
from edgeae_runtime import DataError, EdgeaeError, Input, Scaler
from edgeae_runtime._data import Data
from edgeae_runtime._errors import EdgeaeWarning
from edgeae_runtime._files import new_folder

from ._data import ScalerKind, fit_scaler, split
from ._models import dense
from ._plots import loss_curve

HISTORY_NAME = "history.csv"
LOSS_PLOT_NAME = "loss.png"
MOST_HELD_OUT_ROWS = 10_000
"""Held-out rows kept in a run folder; enough for a threshold at the 99.9th percentile."""
DEFAULT_LATENT = 32


class TrainingError(EdgeaeError):
    """The training cannot go on, for instance because the loss is not a number any more."""


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a training run; what is None is derived from the data."""

    arch: Literal["dense"] = "dense"
    hidden: tuple[int, ...] = (128,)
    """Units of the encoder's hidden layers; the decoder mirrors them."""
    latent: int | None = None
    """Units of the code; None takes 32, or a quarter of the input where that is less."""
    loss: Literal["mse", "bce"] = "mse"
    scaler: ScalerKind = "minmax"
    epochs: int = 50
    batch_size: int = 128
    validation_split: float = 0.1
    """Share of the rows held out, for early stopping and later for calibration and thresholds."""
    patience: int = 5
    """Epochs without a better validation loss before training stops."""
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """A fitted autoencoder."""

    model: keras.Model
    """``autoencoder``, with the layers ``encoder`` and ``decoder``, on scaled samples."""
    scaler: Scaler
    input: Input
    config: TrainConfig
    """With every derived setting filled in."""
    history: dict[str, list[float]]
    """Per epoch: ``loss`` and ``val_loss``."""
    held_out: NDArray[Any]
    """Rows (n, *shape) in raw units that were not trained on."""

    @property
    def source(self) -> Source:
        """The same as the exporter wants it."""
        encoder, decoder = self.model.get_layer("encoder"), self.model.get_layer("decoder")
        return Source(encoder, decoder, self.scaler, self.input, self.held_out[:MOST_HELD_OUT_ROWS])

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write a run folder: model, scaler and settings, history, loss curve, held-out rows.

        Raises:
            OutputError: the folder exists and ``force`` is false, or the disk refuses it.
        """
        run = Run(input=self.input, scaler=self.scaler, config=msgspec.to_builtins(self.config))
        with new_folder(path, force=force) as folder:
            self.model.save(folder / MODEL_NAME)
            (folder / RUN_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(run)) + b"\n")
            np.save(folder / HOLDOUT_NAME, self.held_out[:MOST_HELD_OUT_ROWS])
            with (folder / HISTORY_NAME).open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["epoch", *self.history])
                epochs = range(1, len(self.history["loss"]) + 1)
                writer.writerows(zip(epochs, *self.history.values(), strict=True))
            loss_curve(self.history, self.config.loss).savefig(folder / LOSS_PLOT_NAME)


def train(
    data: Data,
    config: TrainConfig | None = None,
    *,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> Trained:
    """Fit an autoencoder.

    Args:
        data: normal samples in raw units.
        config: the settings.
        progress: called after every epoch with its number, from 1, and its losses.

    Raises:
        DataError: too few rows, or nothing but constants.
        TrainingError: the loss became NaN or infinite.
        (warning) EdgeaeWarning: the code is as large as the input; constant columns.
    """
    config = _complete(config or TrainConfig(), data)
    train_rows, held_out = split(data.values, config.validation_split, config.seed)
    if len(train_rows) < config.batch_size:
        raise DataError(
            f"{len(train_rows)} rows to train on are fewer than a batch of {config.batch_size}; "
            f"give more rows, or --batch-size {max(1, len(train_rows) // 4)}"
        )
    scaler = fit_scaler(train_rows, config.scaler, data.features)
    scaled, scaled_held_out = (scaler.scale(rows).reshape(len(rows), -1) for rows in (train_rows, held_out))

    keras.utils.set_random_seed(config.seed)
    assert config.latent is not None
    output_activation = "sigmoid" if config.loss == "bce" else "linear"
    model = dense(scaled.shape[1], config.hidden, config.latent, output_activation)
    loss = "binary_crossentropy" if config.loss == "bce" else "mse"
    model.compile(keras.optimizers.Adam(config.learning_rate), loss=loss)
    fitted = model.fit(
        scaled,
        scaled,
        epochs=config.epochs,
        batch_size=config.batch_size,
        validation_data=(scaled_held_out, scaled_held_out),
        callbacks=_callbacks(config, progress),
        verbose=0,
    )
    history = {name: [float(value) for value in values] for name, values in fitted.history.items()}
    if not np.isfinite([history["loss"], history["val_loss"]]).all():
        raise TrainingError(
            f"the loss is no longer a number in epoch {len(history['loss'])}; try a smaller --learning-rate "
            "or --scaler standard"
        )
    shape = Input(shape=data.values.shape[1:], features=data.features)
    return Trained(model, scaler, shape, config, history, held_out)


def _complete(config: TrainConfig, data: Data) -> TrainConfig:
    """Fill in what is derived from the data, and warn of what makes no sense."""
    size = int(np.prod(data.values.shape[1:]))
    if config.loss == "bce" and config.scaler != "minmax":
        raise DataError("binary cross-entropy wants values in [0, 1]; use --scaler minmax with --loss bce")
    latent = config.latent or max(1, min(DEFAULT_LATENT, size // 4))
    if latent >= size:
        warnings.warn(
            f"a code of {latent} values is not smaller than the input of {size}: the network can copy "
            "its input instead of learning its structure, and then nothing looks abnormal",
            EdgeaeWarning,
            stacklevel=3,
        )
    return msgspec.structs.replace(config, latent=latent)


class _StopWithoutNumbers(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Ends the training when a loss is NaN or infinite; Keras's own callback for that also prints."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if not np.isfinite(list(logs.values())).all():
            self.model.stop_training = True


def _callbacks(
    config: TrainConfig, progress: Callable[[int, dict[str, float]], None] | None
) -> list[keras.callbacks.Callback]:
    callbacks: list[keras.callbacks.Callback] = [
        _StopWithoutNumbers(),
        keras.callbacks.EarlyStopping("val_loss", patience=config.patience, restore_best_weights=True),
    ]
    if progress is not None:
        callbacks.append(
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: progress(epoch + 1, dict(logs)))
        )
    return callbacks
