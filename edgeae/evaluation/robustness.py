"""Robustness to noise: the error against the clean input, as the input gets noisier."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import Scaler

from ..config import NOISES, NoiseKind
from ..training.noise import corrupt
from .subjects import Evaluated

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Error of one evaluated model under one kind of noise."""

    name: str
    noise: NoiseKind
    levels: tuple[float, ...]
    """Gaussian: the standard deviation in scaled units; else the share of values that are hit."""
    mse: tuple[float, ...]
    """At each level: mean squared error of what is made of the noisy rows, against the clean ones."""


def robustness(
    subjects: Sequence[Evaluated],
    scaler: Scaler,
    rows: NDArray[Any],
    *,
    kinds: Sequence[NoiseKind] = NOISES,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
) -> tuple[Curve, ...]:
    """Measure every subject under the very same noise.

    A copy of the input has an error equal to the power of the noise, ``level²`` where it is Gaussian; a
    model that has learned what its data look like stays below.

    Args:
        subjects: each must reconstruct.
        scaler: between raw and scaled units.
        rows: clean rows (n, *shape) in raw units.
        kinds: of noise.
        levels: of noise.
        seed: for the noise.
    """
    scaled = scaler.scale(rows)
    clean = scaled.reshape(len(rows), -1).astype(np.float64)
    found: dict[tuple[str, NoiseKind], list[float]] = {(s.name, k): [] for k in kinds for s in subjects}
    for kind in kinds:
        for level in levels:
            noisy = rows  # not through the scaler and back, which rounds
            if level:
                noisy = scaler.unscale(corrupt(scaled, kind, level, np.random.default_rng(seed)))
            for subject in subjects:
                _, _, copy = subject.reconstruct(noisy)
                assert copy is not None, "only what reconstructs is measured"
                found[subject.name, kind].append(float(np.mean(np.square(clean - copy))))
    return tuple(
        Curve(name=name, noise=kind, levels=tuple(levels), mse=tuple(values))
        for (name, kind), values in found.items()
    )
