"""Robustness to noise: the error against the clean input, as the input gets noisier."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import Scaler

from ...config import NOISES, NoiseKind
from ...training.noise import corrupt
from ..baselines import identity_subject
from ..context import LEVELS, Context
from ..report_table import ReportTable, number
from ..subjects import Evaluated

MOST_ROWS = 2000
"""Rows that noise is added to, drawn with the seed."""


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Error of one evaluated model under one kind of noise."""

    name: str
    noise: NoiseKind
    levels: tuple[float, ...]
    """Gaussian: the standard deviation in scaled units; else the share of values that are hit."""
    mse: tuple[float, ...]
    """At each level: mean squared error of what is made of the noisy rows, against the clean ones."""


def compute(context: Context) -> tuple[Curve, ...]:
    """Measure what reconstructs, PCA and a plain copy, on rows that PCA was not fitted on."""
    opened = context.opened
    whole = [s for s in opened.subjects if context.measured[s.name].absolute is not None]
    rows = np.random.default_rng(context.seed).permutation(context.unfitted)[:MOST_ROWS]
    return robustness(
        [*whole, context.pca, identity_subject(opened.scaler)],
        opened.scaler,
        context.samples.rows[np.sort(rows)],
        kinds=context.noise,
        levels=context.levels,
        seed=context.seed,
    )


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


def tables(found: tuple[Curve, ...]) -> list[ReportTable]:
    """Return one table a kind of noise."""
    return [
        _table(noise, [curve for curve in found if curve.noise == noise])
        for noise in dict.fromkeys(curve.noise for curve in found)
    ]


def _table(noise: NoiseKind, curves: Sequence[Curve]) -> ReportTable:
    rows = [[c.name, *map(number, c.mse)] for c in curves]
    what = "standard deviation in scaled units" if noise == "gaussian" else "share of the values that are hit"
    return ReportTable(
        f"Robustness: {noise} noise",
        [["model", *(f"{level:g}" for level in curves[0].levels)], *rows],
        f"MSE of what is made of the noisy input, against the clean one; columns: {what}. A model near the "
        "identity copy has learned to copy.",
    )
