"""The settings of a training run: what goes together, and what is derived from the data."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from edgeae_runtime.errors import Argument, EdgeaeWarning
from edgeae_runtime.settings import SettingsError, check

from .models.architectures import ARCHITECTURES, Arch, Architecture

if TYPE_CHECKING:
    from numpy.typing import NDArray

Objective: TypeAlias = Literal["plain", "denoising", "sparse", "contractive", "variational"]
Loss: TypeAlias = Literal["mse", "bce", "mae"]
Sparsity: TypeAlias = Literal["l1", "kl"]
NoiseKind: TypeAlias = Literal["gaussian", "masking", "salt-and-pepper"]
ScalerKind: TypeAlias = Literal["minmax", "standard"]
NOISES: tuple[NoiseKind, ...] = get_args(NoiseKind)

Count: TypeAlias = Annotated[int, Meta(gt=0)]
Weight: TypeAlias = Annotated[float, Meta(ge=0)]
Positive: TypeAlias = Annotated[float, Meta(gt=0)]
Share: TypeAlias = Annotated[float, Meta(gt=0, lt=1)]

LARGEST_LATENT = 32
ROWS_LOOKED_AT = 10_000
"""For the choice of a loss."""

_OF_OBJECTIVE: dict[str, Objective] = {
    "noise_kind": "denoising",
    "noise": "denoising",
    "sparsity": "sparse",
    "sparsity_target": "sparse",
    "sparsity_weight": "sparse",
    "contractive_weight": "contractive",
    "kl_weight": "variational",
}


def _default_hidden() -> str:
    """Return in words how many hidden units each architecture has where none are given."""
    named: dict[str, list[str]] = {}
    for name, row in ARCHITECTURES.items():
        named.setdefault(row.default_hidden_text, []).append(name)
    return "; ".join(f"{', '.join(names)} {text}" for text, names in named.items())


def _tied() -> str:
    """Return the architectures that can have tied weights."""
    return " and ".join(name for name, row in ARCHITECTURES.items() if row.tied)


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a training run; what is None is derived from the data.

    A field has all there is to say of a setting: ``edgeae train`` takes its option from it, `check` and a
    TOML file are held to it, and ``run.json`` keeps it by its name.

    The weights of penalties are relative to the loss of predicting the mean of the training rows, so one
    weight serves every scaler, unit and loss.
    """

    arch: Annotated[Arch, Meta(description="Kind of network.")] = "dense"
    hidden: Annotated[
        tuple[Annotated[int, Meta(ge=1, title="layer")], ...] | None,
        Meta(
            description="Units or filters of a hidden layer of the encoder; give it once a layer. The "
            "decoder mirrors them.",
            extra={"derived": _default_hidden()},
        ),
    ] = None
    latent: Annotated[
        Count | None,
        Meta(
            description="Units of the code.",
            extra={"derived": "32, or a quarter of the input if less"},
        ),
    ] = None
    objective: Annotated[
        Objective, Meta(description="What keeps the code from being a copy, besides its size.")
    ] = "plain"
    loss: Annotated[
        Loss | None,
        Meta(
            description="Of the reconstruction; mae bears outliers.",
            extra={"derived": "bce for data of two values, minmax and a network with activations, else mse"},
        ),
    ] = None
    noise: Annotated[
        Weight, Meta(description="Denoising: standard deviation in scaled units, or share of the values.")
    ] = 0.3
    noise_kind: Annotated[NoiseKind, Meta(description="Denoising: kind of noise.")] = "gaussian"
    sparsity: Annotated[
        Sparsity,
        Meta(
            description="Sparse: few units active (the mean of a ReLU code), or each of them rarely (a "
            "sigmoid code's divergence from the target)."
        ),
    ] = "l1"
    sparsity_target: Annotated[Share, Meta(description="Sparse, kl: mean activation of each unit.")] = 0.05
    sparsity_weight: Annotated[Weight, Meta(description="Sparse: weight of the penalty.")] = 0.03
    contractive_weight: Annotated[
        Weight,
        Meta(
            description="Contractive: weight of the encoder's Jacobian, its mean squared entry summed over "
            "the inputs."
        ),
    ] = 0.1
    kl_weight: Annotated[
        Weight,
        Meta(
            description="Variational: weight of the divergence from the prior; more disentangles, less "
            "reconstructs."
        ),
    ] = 1.0
    laplacian: Annotated[
        Weight,
        Meta(description="Weight that keeps neighbours of the input near in the code; 0 for none, try 0.1."),
    ] = 0.0
    l2: Annotated[Weight, Meta(description="Weight of the sum of squared kernel entries.")] = 0.0
    max_norm: Annotated[
        Positive | None,
        Meta(
            description="Largest Euclidean norm of the weights that lead into a unit.",
            extra={"derived": "any"},
        ),
    ] = None
    tied: Annotated[
        bool,
        Meta(description=f"{_tied().capitalize()}: decoder kernels are the encoder's, transposed."),
    ] = False
    scaler: Annotated[
        ScalerKind,
        Meta(
            description="To the range [0, 1], or to mean 0 and variance 1; fitted on the training rows.",
        ),
    ] = "minmax"
    epochs: Annotated[Count, Meta(description="At most; training stops early.")] = 50
    batch_size: Annotated[Count, Meta(description="Rows a step.")] = 128
    validation_split: Annotated[
        Share, Meta(description="Share of the rows held out, for early stopping and for thresholds.")
    ] = 0.1
    patience: Annotated[
        Count,
        Meta(description="Epochs without progress before the end; midway the step size is halved."),
    ] = 5
    learning_rate: Annotated[Positive, Meta(description="Adam's step size at the beginning.")] = 1e-3
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1, description="For repeatability.")] = 0


def complete(config: TrainConfig, values: "NDArray[Any]") -> TrainConfig:
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
            "binary cross-entropy wants values in [0, 1]; use ",
            Argument("scaler", "minmax"),
            " with ",
            Argument("loss", "bce"),
        )
    if latent >= size and config.objective == "plain":
        warnings.warn(
            f"a code of {latent} values is not smaller than the input of {size}: the network can copy "
            "its input instead of learning its structure, and then nothing looks abnormal",
            EdgeaeWarning,
            stacklevel=3,
        )
    default_hidden = ARCHITECTURES[config.arch].default_hidden
    hidden = default_hidden(shape) if config.hidden is None else tuple(config.hidden)
    return msgspec.structs.replace(config, hidden=hidden, latent=latent, loss=loss)


def loss_name(config: TrainConfig) -> str:
    """Return what the training's loss is: that of the reconstruction, or more."""
    more = config.objective not in ("plain", "denoising") or config.laplacian or config.l2
    return f"{config.loss} with penalties" if more else f"{config.loss}"


def _check(config: TrainConfig, shape: Sequence[int]) -> None:
    check(config)
    if config.noise_kind != "gaussian" and config.noise > 1:
        raise SettingsError(
            f"noise: {config.noise_kind} hits a share of the values, expected at most 1, found {config.noise}"
        )
    _check_arch(config, shape)
    defaults = TrainConfig()
    for name, objective in _OF_OBJECTIVE.items():
        if config.objective != objective and getattr(config, name) != getattr(defaults, name):
            raise SettingsError(
                f"{name} has no effect with the objective {config.objective}; leave it out, or choose "
                f"the objective {objective}"
            )


def _check_arch(config: TrainConfig, shape: Sequence[int]) -> None:
    name, row = config.arch, ARCHITECTURES[config.arch]
    if not row.takes(shape):
        window = ("cut the series into windows with ", Argument("window"), ", or ") if len(shape) == 1 else ()
        raise SettingsError(
            f"{name} wants samples of {row.samples}, these have the shape {tuple(shape)}; ",
            *window,
            "use ",
            _use(row, shape, lambda other: True),
        )
    fewest, most = row.hidden_layers
    if config.hidden is not None and not fewest <= len(config.hidden) <= most:
        if most:
            raise SettingsError(f"hidden: {name} wants at least one layer, found none")
        raise SettingsError(
            f"hidden: {name} has no hidden layer, found {len(config.hidden)}; leave out ",
            Argument("hidden"),
            ", or use ",
            _use(row, shape, lambda other: other.hidden_layers[1] >= len(config.hidden or ())),
        )
    if config.tied and not row.tied:
        raise SettingsError(
            f"tied weights are for {_tied()} networks; use ",
            _use(row, shape, lambda other: other.tied),
            f", or {name} untied",
        )
    for setting, value in (("objective", "sparse"), ("loss", "bce")):
        if getattr(config, setting) == value and not row.activations:
            raise SettingsError(
                f"{setting}: {value} needs an activation, and {name} has none; choose another {setting}, ",
                "or use ",
                _use(row, shape, lambda other: other.activations),
            )


def _use(row: Architecture, shape: Sequence[int], fits: Callable[[Architecture], bool]) -> Argument:
    """Return the architecture to use in place of another one: of those that fit, the most alike.

    Args:
        row: the one that will not do.
        shape: of the samples.
        fits: whether another one has what is missing.
    """
    fitting = {name: other for name, other in ARCHITECTURES.items() if other.takes(shape) and fits(other)}
    return Argument("arch", min(fitting, key=lambda n: (fitting[n].axes != row.axes, not fitting[n].axes)))


def _loss_for(config: TrainConfig, values: "NDArray[Any]") -> Loss:
    """Return the cross-entropy for flags and black-and-white pixels, for which it is the likelihood."""
    import numpy as np

    if config.scaler != "minmax" or not ARCHITECTURES[config.arch].activations:
        return "mse"
    for part in (values[:ROWS_LOOKED_AT], values):  # most data show in their first rows what they are
        ends = (part.min(), part.max())
        if not np.isin(part, ends).all():
            return "mse"
    return "bce"
