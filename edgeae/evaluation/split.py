"""Which rows are fitted on, and which are tested on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ground_truth import Samples, Truth

LEAST_FIT_ROWS = 2
MOST_ROWS = 10_000
"""Rows with classes used at most, drawn with the seed: the raw input is what takes long, not the code."""


def halves(labels: NDArray[Any], seed: int, *, in_time: int | None = None) -> tuple[Any, Any]:
    """Return indices of training and test rows, each about half.

    Args:
        labels: (n,); each class is halved.
        seed: for the draw.
        in_time: for rows in order of time, how many at the border overlap both sides and are left out:
            the first half trains, the second tests, and nothing is drawn.
    """
    if in_time is not None:
        middle = len(labels) // 2
        return np.arange(max(0, middle - in_time)), np.arange(middle, len(labels))
    from sklearn.model_selection import train_test_split

    chosen = np.arange(len(labels))
    if len(labels) > MOST_ROWS:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(labels))[:MOST_ROWS])
        classes, counts = np.unique(labels[chosen], return_counts=True)
        chosen = chosen[np.isin(labels[chosen], classes[counts > 1])]
    return tuple(
        train_test_split(chosen, test_size=0.5, random_state=seed, shuffle=True, stratify=labels[chosen])
    )


def two_parts(samples: Samples, truth: Truth | None, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return indices of two disjoint halves of the normal rows; of few rows, all twice."""
    rows = np.arange(len(samples.rows)) if truth is None else np.flatnonzero(~truth.anomalous)
    if len(rows) < 2 * LEAST_FIT_ROWS:
        return rows, rows
    if samples.series:
        first, second = halves(rows, seed, in_time=samples.overlap)
    else:
        first, second = np.split(np.random.default_rng(seed).permutation(len(rows)), [len(rows) // 2])
    return rows[first], rows[second]
