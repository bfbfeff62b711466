"""From the estimator's parameters to what a training wants."""

import warnings
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from edgeae_runtime.settings import SettingsError, settings

from ..config import TrainConfig
from ..data.dataset import Data

LEAST_BATCHES = 4
"""Least batches in an epoch: of few rows, a batch is made smaller so that an epoch is more than one step."""

DEPRECATED = "deprecated"
"""The default of a parameter's old name: scikit-learn's own way, which `get_params` and `clone` bear with."""

_OLD_NAMES = {"latent_dim": "latent", "architecture": "arch"}
_CONFIG_NAMES = {
    "validation_fraction": "validation_split",
    "random_state": "seed",
}
"""Parameters that scikit-learn's habits name otherwise than `TrainConfig` does."""
_ESTIMATOR_ONLY = {"sample_shape", "stride", "threshold", "verbose"}
"""Parameters that are no settings of the training."""


def as_data(samples: NDArray[Any], stride: int | None, names: Iterable[str] | None) -> Data:
    """Return samples (n, *shape) with what is known of them.

    Args:
        samples: in raw units.
        stride: of windows of a series.
        names: of the columns of a table.

    Raises:
        SettingsError: a stride, and samples that cannot be windows.
    """
    if stride is None:
        return Data(samples, None if names is None or samples.ndim > 2 else tuple(map(str, names)))
    if samples.ndim != 3 or stride < 1:
        raise SettingsError(
            f"stride {stride} and samples of shape {samples.shape[1:]}: expected a stride of at least 1, "
            "and windows of a series, with the sample_shape (readings, sensors)"
        )
    starts = range(0, len(samples) * stride, stride)
    return Data(samples, None, window=samples.shape[1], stride=stride, segments=((starts,),))


def _with_new_names(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters of which none has its old name."""
    renamed = {name: value for name, value in parameters.items() if name not in _OLD_NAMES}
    for old, new in _OLD_NAMES.items():
        value = parameters[old]
        if isinstance(value, str) and value == DEPRECATED:
            continue
        default = getattr(TrainConfig(), new)
        if parameters[new] != default:
            raise SettingsError(f"{old} is the old name of {new}, and both are given; leave out {old}")
        warnings.warn(
            f"Autoencoder: {old} is called {new} now; the old name will be removed",
            DeprecationWarning,
            stacklevel=4,  # whoever calls fit
        )
        renamed[new] = value
    return renamed


def as_config(parameters: dict[str, Any], data: Data) -> TrainConfig:
    """Return the settings of a training, with a batch and a held-out share that suit the number of rows.

    Args:
        parameters: all of the estimator's.
        data: what it is fitted on.

    Raises:
        SettingsError: a parameter is of a wrong type or out of range, or is given by both of its names.
        (warning) DeprecationWarning: it is given by its old name.
    """
    given = {
        _CONFIG_NAMES.get(name, name): value.item() if isinstance(value, np.generic) else value
        for name, value in _with_new_names(parameters).items()
        if name not in _ESTIMATOR_ONLY
    }
    if given["hidden"] is not None:
        given["hidden"] = np.asarray(given["hidden"]).tolist()
    given["seed"] = int(check_random_state(parameters["random_state"]).randint(2**31 - 1))
    for setting in settings(TrainConfig):
        if setting.has_type(given[setting.name]):
            setting.check(given[setting.name])
    try:
        config = msgspec.convert(given, TrainConfig)
    except msgspec.ValidationError as error:
        raise SettingsError(f"Autoencoder: {error}") from error
    count = len(data.values)
    held_out = min(max(round(count * config.validation_split), 1), count - 2)
    in_both = 0 if data.window is None or data.stride is None else -(-data.window // data.stride) - 1
    return msgspec.structs.replace(
        config,
        batch_size=min(config.batch_size, max(1, (count - held_out - in_both) // LEAST_BATCHES)),
        validation_split=held_out / count,
    )
