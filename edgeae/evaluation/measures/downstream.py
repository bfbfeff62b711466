"""Downstream tasks with labels: classification and clustering of the code, beside the input and PCA."""

import warnings
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError

from ..context import Context
from ..ground_truth import check_classes
from ..report_table import ReportTable, share
from ..split import halves

NEIGHBOURS = 5
PROBE_STEPS = 300
CLUSTER_STARTS = 4


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


def compute(context: Context) -> Downstream | None:
    """Compare the codes with input and PCA; not for anomalies of a series, which are no classes."""
    samples, labels, seed = context.samples, context.samples.labels, context.seed
    if labels is None or (
        context.truth is not None and (samples.series or np.unique(labels, return_counts=True)[1].min() < 2)
    ):
        return None
    train, test = halves(labels, seed, in_time=samples.overlap if samples.series else None)
    chosen = np.concatenate([train, test])
    raw = context.opened.scaler.scale(samples.rows[chosen])
    representations = {s.name: context.measured[s.name].codes[chosen] for s in context.opened.subjects}
    representations[context.pca.name] = context.pca.reconstruct(samples.rows[chosen])[0]
    representations["raw input"] = raw.reshape(len(raw), -1)
    split = np.arange(len(train)), np.arange(len(train), len(chosen))
    return downstream(representations, labels[chosen], *split, seed=seed)


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


def table(found: Downstream) -> ReportTable:
    """Return the usefulness of all representations as a table."""
    heading = ["representation", "values", "linear probe", "5 neighbours", "adj. Rand", "NMI"]
    rows = [
        [
            u.name,
            str(u.values),
            share(u.linear_probe),
            share(u.nearest_neighbours),
            f"{u.adjusted_rand:.3f}",
            f"{u.mutual_information:.3f}",
        ]
        for u in found.found
    ]
    note = (
        f"{found.classes} classes; trained on {found.train_rows:,} rows, tested on {found.test_rows:,} more. "
        f"Naming the most frequent class gives {found.majority:.2%}. Clusters by k-means, one a class."
    )
    return ReportTable("What the code is good for", [heading, *rows], note)
