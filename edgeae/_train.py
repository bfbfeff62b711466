"""Fitting: data in, a trained autoencoder out, and the run folder that keeps it."""

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_export._source import HOLDOUT_NAME, MODEL_NAME, RUN_NAME, Run, Source
from edgeae_runtime import DataError, EdgeaeError, Input, Scaler
from edgeae_runtime._errors import Argument
from edgeae_runtime._files import new_folder

from ._batches import Batches
from ._checkpoint import Checkpoint, identify
from ._config import SettingsError, TrainConfig, complete
from ._data import fit_scaler, hold_out
from ._dataset import Data
from ._models import build, posterior, untie
from ._objectives import KERAS_LOSSES, Objective, baseline, needs_more
from ._plots import loss_curve

__all__ = ["SettingsError", "TrainConfig", "Trained", "TrainingError", "train"]

HISTORY_NAME = "history.csv"
LOSS_PLOT_NAME = "loss.png"
MOST_HELD_OUT_ROWS = 10_000
"""Held-out rows kept in a run folder; enough for a threshold at the 99.9th percentile."""
POSTERIOR_NAME = "posterior.keras"
BASELINE_ROWS = 10_000
"""Training rows on which the loss of predicting the mean is taken."""
PLATEAU_FACTOR = 0.5
"""What the learning rate is multiplied with where the validation loss stalls."""


class TrainingError(EdgeaeError):
    """The training cannot go on, for instance because the loss is not a number any more."""


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
    """Per epoch: ``loss`` and ``val_loss``, penalties included, and ``learning_rate``."""
    held_out: NDArray[Any]
    """Rows (n, *shape) in raw units that were not trained on."""
    posterior: keras.Model | None = None
    """Of a variational autoencoder: scaled samples to the code's log-variance; ``model`` gives the mean."""

    @property
    def source(self) -> Source:
        """The same as the exporter wants it."""
        encoder, decoder = self.model.get_layer("encoder"), self.model.get_layer("decoder")
        return Source(encoder, decoder, self.scaler, self.input, self.held_out[:MOST_HELD_OUT_ROWS])

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a run folder: model, scaler and settings, history, loss curve, held-out rows.

        Raises:
            OutputError: the folder exists and ``force`` is false, or the disk refuses it.
        """
        run = Run(input=self.input, scaler=self.scaler, config=msgspec.to_builtins(self.config))
        with new_folder(Path(path), force=force, mark=RUN_NAME) as folder:
            self.model.save(folder / MODEL_NAME)
            if self.posterior is not None:
                self.posterior.save(folder / POSTERIOR_NAME)
            (folder / RUN_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(run)) + b"\n")
            rows = io.BytesIO()  # written to a file, numpy would not notice a full disk
            np.save(rows, self.held_out[:MOST_HELD_OUT_ROWS])
            (folder / HOLDOUT_NAME).write_bytes(rows.getvalue())
            with (folder / HISTORY_NAME).open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["epoch", *self.history])
                epochs = range(1, len(self.history["loss"]) + 1)
                writer.writerows(zip(epochs, *self.history.values(), strict=True))
            loss_curve(self.history, self.config.loss or "mse").savefig(folder / LOSS_PLOT_NAME)


def train(
    data: Data,
    config: TrainConfig | None = None,
    *,
    progress: Callable[[int, dict[str, float]], None] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Trained:
    """Fit an autoencoder.

    The same data, settings and versions give the same weights on the same machine, to the bit. On a GPU call
    ``tensorflow.config.experimental.enable_op_determinism()`` before.

    Args:
        data: normal samples in raw units.
        config: the settings.
        progress: called after every epoch with its number, from 1, and its losses.
        checkpoint: file that is written after every epoch, for ``resume``; it stays when the training is
            done, for the caller to delete once the result is safe.
        resume: continue from ``checkpoint`` where there is one; the weights will be those of a training
            that was never interrupted.

    Raises:
        SettingsError: settings that do not go together, or not with the data.
        DataError: too few rows, or nothing but constants.
        TrainingError: the loss became NaN or infinite.
        ResumeError: the checkpoint is damaged, or of another training.
        (warning) EdgeaeWarning: the code is as large as the input; constant columns.
    """
    config = complete(config or TrainConfig(), data.values)
    train_rows, held_out = hold_out(
        data.values, config.validation_split, config.seed, segments=data.segments, window=data.window
    )
    if len(train_rows) < config.batch_size:
        raise DataError(
            f"{len(train_rows)} rows to train on are fewer than a batch of {config.batch_size}; "
            "give more rows, or ",
            Argument("batch_size", max(1, len(train_rows) // 4)),
        )
    scaler = fit_scaler(train_rows, config.scaler, data.features, series=data.window is not None)

    keras.utils.set_random_seed(config.seed)
    shape = data.values.shape[1:]
    autoencoder = build(shape, config)
    spread = posterior(autoencoder.get_layer("encoder")) if config.objective == "variational" else None
    fitted: keras.Model = autoencoder
    optimizer = keras.optimizers.Adam(config.learning_rate)
    if needs_more(config):
        assert config.loss is not None
        base = baseline(config.loss, scaler.scale(train_rows[:BASELINE_ROWS]))
        fitted = Objective(autoencoder, config, base, spread)
        fitted.compile(optimizer, jit_compile=False)
    else:
        fitted.compile(optimizer, loss=KERAS_LOSSES[config.loss or "mse"], jit_compile=False)

    callbacks, state = _callbacks(config, progress, checkpoint, identify(config, data) if checkpoint else {})
    first_epoch = state.read() if checkpoint is not None and resume and checkpoint.exists() else 0
    batches, validation = (
        Batches(rows, scaler, autoencoder.input_shape[1:], config) for rows in (train_rows, held_out)
    )
    fitted.fit(
        batches.training(first_epoch),
        shuffle=False,  # the batches are
        initial_epoch=first_epoch,
        epochs=config.epochs,
        steps_per_epoch=batches.steps,
        validation_data=validation.validation(),
        callbacks=callbacks,
        verbose=0,
    )
    history = state.history
    if not np.isfinite([history["loss"], history["val_loss"]]).all():
        raise TrainingError(
            f"the loss is no longer a number in epoch {len(history['loss'])}; try a smaller ",
            Argument("learning_rate"),
            " or ",
            Argument("scaler", "standard"),
        )
    if config.tied:
        autoencoder = untie(autoencoder, build(shape, msgspec.structs.replace(config, tied=False)))
    sample = Input(shape=shape, features=data.features, window=data.window, stride=data.stride)
    return Trained(autoencoder, scaler, sample, config, history, held_out, spread)


class _StopWithoutNumbers(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Ends the training when a loss is NaN or infinite; Keras's own callback for that also prints."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if not np.isfinite(list(logs.values())).all():
            self.model.stop_training = True


def _callbacks(
    config: TrainConfig,
    progress: Callable[[int, dict[str, float]], None] | None,
    checkpoint: Path | None,
    identity: dict[str, Any],
) -> tuple[list[keras.callbacks.Callback], Checkpoint]:
    """Return what Keras calls after each epoch, in order; the last of them keeps the state."""
    early = keras.callbacks.EarlyStopping("val_loss", patience=config.patience, restore_best_weights=True)
    plateau = keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=PLATEAU_FACTOR, patience=math.ceil(config.patience / 2), min_delta=0
    )
    state = Checkpoint(checkpoint, identity, early, plateau)
    callbacks = [_StopWithoutNumbers(), early, plateau, state]
    if progress is not None:
        callbacks.append(
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: progress(epoch + 1, dict(logs)))
        )
    return callbacks, state
