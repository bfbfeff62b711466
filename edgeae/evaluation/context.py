"""What every measure is computed from: the models and baselines, the rows, and what is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgeae_runtime.bundle import Rule

from ..config import NoiseKind
from .ground_truth import Samples, Truth
from .subjects import Evaluated, Measured, Opened

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Of noise."""


@dataclass(frozen=True)
class Context:
    """What a measure may look at."""

    opened: Opened
    samples: Samples
    """With rows in the shape that the model takes."""
    truth: Truth | None
    fit: NDArray[Any] | None
    """Normal rows (m, *shape) for the baselines, where there are some beside the samples."""
    pca: Evaluated
    """Fitted on ``fit``, or else on a part of the samples."""
    unfitted: NDArray[Any]
    """Indices of normal samples that PCA was not fitted on."""
    compared: tuple[Evaluated, ...]
    """The models, and PCA where it was fitted on other rows than the samples."""
    measured: dict[str, Measured]
    """By the name of what is compared: codes and errors of every row."""
    images: bool
    """Whether the rows are images."""
    posterior: Any
    """Keras model of a variational run: scaled samples to the code's log-variance; else None."""
    rule: Rule
    """For the thresholds of the baselines."""
    noise: Sequence[NoiseKind]
    levels: Sequence[float]
    seed: int


def are_images(shape: tuple[int, ...], *, series: bool) -> bool:
    """Return whether samples are images: (height, width), or with one, three or four channels."""
    return not series and (
        (len(shape) == 2 and min(shape) > 3) or (len(shape) == 3 and shape[-1] in (1, 3, 4))
    )
