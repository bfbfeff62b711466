"""Downstream tasks with labels: classification and clustering of the code, beside the input and PCA."""

import warnings
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError

NEIGHBOURS = 5
PROBE_STEPS = 300
CLUSTER_STARTS = 4
MOST_ROWS = 10_000
"""Rows used at most, drawn with the seed: the raw input is what takes long, not the code."""


class Usefulness(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of one representation in classification and clustering."""

    name: str
    values: int
    """Values in one row of it."""
    linear_probe: float
    """Test accuracy of a logistic regression on standardised values."""
    nearest_neighbours: float
    """Test accuracy of the majority of the five nearest training rows, Euclidean."""
    adjusted_rand: float
    """Adjusted Rand index of k-means, as many clusters as classes, and the labels: 1 is equal, 0 chance."""
    mutual_information: float
    """Normalised, of the same clusters: 0 to 1."""


class Downstream(msgspec.Struct, frozen=True, kw_only=True):
    """The usefulness of several representations of the same rows."""

    classes: int
    train_rows: int
    test_rows: int
    majority: float
    """Test accuracy of always naming the most frequent class."""
    found: tuple[Usefulness, ...]


def check_classes(labels: NDArray[Any]) -> None:
    """Refuse labels (n,) on which nothing can be trained and tested.

    Raises:
        DataError: one class only, or a class of a single row.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise DataError(
            f"labels: all {len(labels)} rows are {str(classes[0])!r}; expected at least two classes; give "
            "rows of other classes, or leave the labels out"
        )
    if counts.min() < 2:
        raise DataError(
            f"labels: only one row is {str(classes[np.argmin(counts)])!r}; every class needs one to train "
            "and one to test on; leave it out, or check that the labels are classes and not measurements"
        )


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


def downstream(
    representations: Mapping[str, NDArray[Any]],
    labels: NDArray[Any],
    train: NDArray[Any],
    test: NDArray[Any],
    *,
    seed: int = 0,
) -> Downstream:
    """Train on some rows of each representation and test on others.

    Args:
        representations: by name, (n, values) each.
        labels: (n,), classes.
        train: indices of the rows to train on.
        test: indices of the rows to test on.
        seed: for probe and clusters.

    Raises:
        DataError: see `check_classes`; also where the training rows hold one class only.
    """
    check_classes(labels)
    if len(np.unique(labels[train])) < 2:
        raise DataError("labels: the first half of the series holds one class only; give a longer series")
    names, counts = np.unique(labels[train], return_counts=True)
    return Downstream(
        classes=len(np.unique(labels)),
        train_rows=len(train),
        test_rows=len(test),
        majority=float(np.mean(labels[test] == names[np.argmax(counts)])),
        found=tuple(
            _usefulness(name, values, labels, train, test, seed) for name, values in representations.items()
        ),
    )


def _usefulness(
    name: str, values: NDArray[Any], labels: NDArray[Any], train: Any, test: Any, seed: int
) -> Usefulness:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=PROBE_STEPS))
    neighbours = KNeighborsClassifier(NEIGHBOURS if len(train) >= NEIGHBOURS else 1)
    with warnings.catch_warnings():
        # a probe after so many steps is a fair one; fewer distinct rows than clusters show in ARI
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(values[train], labels[train])
        neighbours.fit(values[train], labels[train])
        means = KMeans(len(np.unique(labels)), n_init=CLUSTER_STARTS, random_state=seed)
        clusters = means.fit_predict(values[test])
    return Usefulness(
        name=name,
        values=values.shape[1],
        linear_probe=float(probe.score(values[test], labels[test])),
        nearest_neighbours=float(neighbours.score(values[test], labels[test])),
        adjusted_rand=float(adjusted_rand_score(labels[test], clusters)),
        mutual_information=float(normalized_mutual_info_score(labels[test], clusters)),
    )
