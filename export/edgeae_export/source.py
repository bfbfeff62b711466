"""What an export starts from: encoder, decoder, scaler, and held-out normal rows in raw units.

The format of a run folder lives here; the trainer imports it to write one.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgeae_runtime import Input, Scaler

MODEL_NAME = "autoencoder.keras"
RUN_NAME = "run.json"
HOLDOUT_NAME = "holdout.npy"

UNSCALED = Scaler(kind="none", offset=(0.0,), gain=(1.0,))


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
    anomalies: NDArray[Any] | None = None
    """Samples (m, *shape) known to be anomalies, for the threshold rule ``f1``."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the training, as far as they are known."""
