"""Fitting: data in, a trained autoencoder out."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np

from edgeae_runtime import DataError, EdgeaeError, Input
from edgeae_runtime.errors import Argument
from edgeae_runtime.settings import SettingsError

from ..config import TrainConfig, complete
from ..data.dataset import Data
from ..data.scaling import fit_scaler
from ..data.split import hold_out
from ..models.dense import untie
from .batches import Batches
from .build import build, posterior
from .checkpoint import Checkpoint, identify
from .objectives import KERAS_LOSSES, Objective, baseline, needs_more
from .run import Trained

__all__ = ["SettingsError", "TrainConfig", "Trained", "TrainingError", "train"]

BASELINE_ROWS = 10_000
"""Training rows on which the loss of predicting the mean is taken."""
PLATEAU_FACTOR = 0.5
"""Factor for the learning rate where the validation loss stalls."""


class TrainingError(EdgeaeError):
    """The training cannot go on, for instance because the loss is not a number any more."""


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
    # Its weights are Keras's initial ones up to here; a start from the data (train_rows, scaler) would set
    # them at this line, before the posterior and the optimizer see them and a checkpoint replaces them.
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
