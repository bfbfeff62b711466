"""What an export starts from: encoder, decoder, scaler, and held-out normal rows in raw units.

The format of a run folder lives here, with its reader; the trainer imports it to write one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError, EdgeaeError, Input, Scaler

MODEL_NAME = "autoencoder.keras"
RUN_NAME = "run.json"
HOLDOUT_NAME = "holdout.npy"


class RunError(EdgeaeError):
    """A run folder is missing, incomplete, or not what `edgeae train` writes."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What ``run.json`` records of a training run besides the weights."""

    input: Input
    scaler: Scaler
    config: dict[str, Any]
    """The trainer's settings, as they were used."""


@dataclass(frozen=True)
class Source:
    """A trained autoencoder and what its export needs to know."""

    encoder: Any
    """Keras model: scaled samples to latent code."""
    decoder: Any
    """Keras model: latent code to scaled reconstruction."""
    scaler: Scaler
    input: Input
    rows: NDArray[Any]
    """Held-out normal samples (n, *shape) in raw units, for calibration, thresholds and the gate."""


def load_run(path: Path) -> Source:
    """Read a run folder.

    Raises:
        RunError: it is missing or incomplete.
    """
    import keras

    for name in (RUN_NAME, MODEL_NAME, HOLDOUT_NAME):
        if not (path / name).is_file():
            raise RunError(f"{path}: not a run folder ({name} is missing); make one with `edgeae train`")
    try:
        run = msgspec.json.decode((path / RUN_NAME).read_bytes(), type=Run)
        rows = np.load(path / HOLDOUT_NAME, allow_pickle=False)
        model = keras.saving.load_model(path / MODEL_NAME, compile=False)
        encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    except (msgspec.DecodeError, ValueError, OSError, EOFError, TypeError, KeyError) as error:
        first_line = next(iter(str(error).splitlines()), "")
        raise RunError(f"{path}: cannot be read ({first_line}); train it again") from error
    if rows.shape[1:] != run.input.shape:
        raise DataError(
            f"{path}: {HOLDOUT_NAME} has rows {rows.shape[1:]}, {RUN_NAME} says {run.input.shape}"
        )
    return Source(encoder, decoder, run.scaler, run.input, rows)
