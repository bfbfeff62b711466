"""A trained autoencoder, and the run folder that keeps it."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_export.source import HOLDOUT_NAME, MODEL_NAME, RUN_NAME, Run, Source
from edgeae_runtime import Input, Scaler
from edgeae_runtime.files import new_folder

from ..config import TrainConfig
from ..plots import loss_curve

HISTORY_NAME = "history.csv"
LOSS_PLOT_NAME = "loss.png"
MOST_HELD_OUT_ROWS = 10_000
"""Held-out rows kept in a run folder; enough for a threshold at the 99.9th percentile."""
POSTERIOR_NAME = "posterior.keras"


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
        rows = self.held_out[:MOST_HELD_OUT_ROWS]
        settings = msgspec.to_builtins(self.config)
        return Source(encoder, decoder, self.scaler, self.input, rows, settings=settings)

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
