"""The settings of a training run: what goes together, and what is derived from the data."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import EdgeaeError
from edgeae_runtime._errors import EdgeaeWarning

from ._data import ScalerKind
from ._robustness import NoiseKind

Arch: TypeAlias = Literal["dense", "conv1d", "conv2d", "lstm"]
Objective: TypeAlias = Literal["plain", "denoising", "sparse", "contractive", "variational"]
Loss: TypeAlias = Literal["mse", "bce", "mae"]
Sparsity: TypeAlias = Literal["l1", "kl"]

LARGEST_DENSE = 128
SMALLEST_DENSE = 8
FILTERS = (16, 32)
"""Of a convolutional encoder; each layer halves the sample's axes."""
LSTM_UNITS = 64
LARGEST_LATENT = 32
ROWS_LOOKED_AT = 10_000
"""For the choice of a loss."""

_AXES: dict[Arch, tuple[tuple[int, ...], str]] = {
    "dense": ((1, 2, 3), ""),
    "conv1d": ((2,), "2 axes, (steps, channels)"),
    "conv2d": ((2, 3), "2 or 3 axes, (height, width[, channels])"),
    "lstm": ((2,), "2 axes, (steps, channels)"),
}
_OF_OBJECTIVE: dict[str, Objective] = {
    "noise_kind": "denoising",
    "noise": "denoising",
    "sparsity": "sparse",
    "sparsity_target": "sparse",
    "sparsity_weight": "sparse",
    "contractive_weight": "contractive",
    "kl_weight": "variational",
}


class SettingsError(EdgeaeError, ValueError):
    """A setting has a value that it cannot have, or settings do not go together, or not with the data."""


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a training run; what is None is derived from the data.

    The weights of penalties are relative to the loss of predicting the mean of the training rows, so one
    weight serves every scaler, unit and loss.
    """

    arch: Arch = "dense"
    hidden: tuple[int, ...] | None = None
    """Of the encoder's hidden layers, mirrored by the decoder: units (dense, lstm) or filters (conv1d,
    conv2d). None takes, for dense, as many units as the sample has values, 8 to 128; for convolutions 16
    and 32 filters; for lstm 64 units."""
    latent: int | None = None
    """Units of the code; None takes 32, or a quarter of the input where that is less."""
    objective: Objective = "plain"
    loss: Loss | None = None
    """None takes bce where the values are but two, as flags or black and white are, and the scaler is
    minmax; else mse. mae bears outliers, and is never chosen by itself."""
    noise: float = 0.3
    """Denoising: standard deviation in scaled units (gaussian), or share of the values that are hit."""
    noise_kind: NoiseKind = "gaussian"
    sparsity: Sparsity = "l1"
    """Sparse: the mean of the code, which is ReLU; or, for a sigmoid code, its divergence from the target."""
    sparsity_target: float = 0.05
    """Sparse, kl: mean activation that each unit of the code should have."""
    sparsity_weight: float = 0.03
    contractive_weight: float = 0.1
    """Of the mean squared entry of the encoder's Jacobian, summed over the inputs."""
    kl_weight: float = 1.0
    """Variational: of the divergence from the prior; more disentangles, less reconstructs."""
    laplacian: float = 0.0
    """Weight of the penalty on neighbours that are far apart in the code; 0 for none, try 0.1."""
    l2: float = 0.0
    """Weight of the sum of squared kernel entries."""
    max_norm: float | None = None
    """Largest Euclidean norm of the weights that lead into one unit."""
    tied: bool = False
    """Dense: the decoder's kernels are the encoder's, transposed."""
    scaler: ScalerKind = "minmax"
    epochs: int = 50
    batch_size: int = 128
    validation_split: float = 0.1
    """Share of the rows held out, for early stopping and later for calibration and thresholds."""
    patience: int = 5
    """Epochs without a better validation loss before training stops; the step size halves midway."""
    learning_rate: float = 1e-3
    """Adam's step size at the beginning."""
    seed: int = 0


def complete(config: TrainConfig, values: NDArray[Any]) -> TrainConfig:
    """Fill in what is derived from the data.

    Args:
        config: the settings.
        values: samples (n, *shape) in raw units.

    Raises:
        SettingsError: see there.
        (warning) EdgeaeWarning: the code is as large as the input, or a setting has no effect.
    """
    _check(config, values.shape[1:])
    shape = values.shape[1:]
    size = math.prod(shape)
    latent = config.latent or max(1, min(LARGEST_LATENT, size // 4))
    loss = config.loss or _loss_for(config, values)
    if loss == "bce" and config.scaler != "minmax":
        raise SettingsError(
            "binary cross-entropy wants values in [0, 1]; use --scaler minmax with --loss bce"
        )
    if latent >= size and config.objective == "plain":
        warnings.warn(
            f"a code of {latent} values is not smaller than the input of {size}: the network can copy "
            "its input instead of learning its structure, and then nothing looks abnormal",
            EdgeaeWarning,
            stacklevel=3,
        )
    hidden = _hidden_for(config.arch, shape) if config.hidden is None else tuple(config.hidden)
    return msgspec.structs.replace(config, hidden=hidden, latent=latent, loss=loss)


def loss_name(config: TrainConfig) -> str:
    """Return what the training's loss is: that of the reconstruction, or more."""
    more = config.objective not in ("plain", "denoising") or config.laplacian or config.l2
    return f"{config.loss} with penalties" if more else f"{config.loss}"


def _check(config: TrainConfig, shape: Sequence[int]) -> None:
    for name, kind in (
        ("arch", Arch),
        ("objective", Objective),
        ("noise_kind", NoiseKind),
        ("sparsity", Sparsity),
        ("scaler", ScalerKind),
    ):
        if getattr(config, name) not in get_args(kind):
            raise SettingsError(
                f"{name}: expected one of {', '.join(get_args(kind))}, found {getattr(config, name)!r}"
            )
    if config.loss is not None and config.loss not in get_args(Loss):
        raise SettingsError(f"loss: expected one of {', '.join(get_args(Loss))}, found {config.loss!r}")
    for name in ("sparsity_weight", "contractive_weight", "kl_weight", "laplacian", "l2", "noise"):
        if not 0 <= getattr(config, name) < math.inf:
            raise SettingsError(f"{name}: expected 0 or more, found {getattr(config, name)}")
    for name in ("max_norm", "learning_rate", "latent", "epochs", "batch_size", "patience"):
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise SettingsError(f"{name}: expected more than 0, found {value}")
    for name in ("sparsity_target", "validation_split"):
        if not 0 < getattr(config, name) < 1:
            raise SettingsError(f"{name}: expected between 0 and 1, found {getattr(config, name)}")
    if config.noise_kind != "gaussian" and config.noise > 1:
        raise SettingsError(
            f"noise: {config.noise_kind} hits a share of the values, expected at most 1, found {config.noise}"
        )
    if any(units < 1 for units in config.hidden or ()):
        raise SettingsError(f"hidden: expected 1 or more in each layer, found {config.hidden}")
    _check_arch(config, shape)
    defaults = TrainConfig()
    for name, objective in _OF_OBJECTIVE.items():
        if config.objective != objective and getattr(config, name) != getattr(defaults, name):
            raise SettingsError(
                f"{name} has no effect with the objective {config.objective}; leave it out, or choose "
                f"the objective {objective}"
            )


def _check_arch(config: TrainConfig, shape: Sequence[int]) -> None:
    wanted, described = _AXES[config.arch]
    if len(shape) not in wanted and config.arch != "dense":
        remedy = (
            "cut the series into windows with --window, or use --arch dense"
            if len(shape) == 1
            else "use --arch conv2d or dense"
        )
        raise SettingsError(
            f"{config.arch} wants samples of {described}, these have the shape {tuple(shape)}; {remedy}"
        )
    if config.hidden == () and config.arch != "dense":
        raise SettingsError(f"hidden: {config.arch} wants at least one layer, found none")
    if config.tied and config.arch != "dense":
        raise SettingsError(f"tied weights are for dense networks; use --arch dense, or {config.arch} untied")


def _hidden_for(arch: Arch, shape: Sequence[int]) -> tuple[int, ...]:
    if arch == "dense":
        return (min(LARGEST_DENSE, max(SMALLEST_DENSE, math.prod(shape))),)
    if arch == "lstm":
        return (LSTM_UNITS,)
    axes = shape[:1] if arch == "conv1d" else shape[:2]
    return FILTERS if min(axes) >= 4 else FILTERS[:1]


def _loss_for(config: TrainConfig, values: NDArray[Any]) -> Loss:
    """Return the cross-entropy for flags and black-and-white pixels, for which it is the likelihood."""
    if config.scaler != "minmax":
        return "mse"
    for part in (values[:ROWS_LOOKED_AT], values):  # most data show in their first rows what they are
        ends = (part.min(), part.max())
        if not np.isin(part, ends).all():
            return "mse"
    return "bce"
