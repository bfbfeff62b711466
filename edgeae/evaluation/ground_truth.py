"""The samples of an evaluation, and which of them are known to be anomalies."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError
from edgeae_runtime.errors import Argument


@dataclass(frozen=True)
class Samples:
    """Rows to evaluate on, and what is known of them."""

    rows: NDArray[Any]
    """(n, *shape), raw units."""
    labels: NDArray[Any] | None = None
    """(n,)."""
    timestamps: NDArray[Any] | None = None
    """(n,) datetime64, of a series: when each row was complete."""
    periods: NDArray[Any] | None = None
    """(m, 2) datetime64: when a series was abnormal."""
    series: bool = False
    """Whether the rows are in order of time: windows."""
    overlap: int = 0
    """Of a series: how many rows after a row share readings with it."""
    span: np.timedelta64 = field(default_factory=lambda: np.timedelta64(0, "us"))
    """From a row's first reading to its last: it is abnormal where any of them is."""


@dataclass(frozen=True)
class Truth:
    """Which rows are anomalies, and for a series in what order and when."""

    anomalous: NDArray[np.bool_]
    """(n,)."""
    series: bool = False
    timestamps: NDArray[Any] | None = None
    """(n,) datetime64: when each row was complete, so when its alarm would be raised."""
    periods: NDArray[Any] | None = None
    """(episodes, 2) datetime64, where labels came as times; else runs of anomalous rows are episodes."""
    span: np.timedelta64 | None = None
    """From a row's first reading to its last; a row belongs to an episode while any of them does."""


def anomalous_rows(labels: NDArray[Any], normal: str | None) -> NDArray[np.bool_] | None:
    """Return which rows (n,) are anomalies, or None where the labels do not say.

    Args:
        labels: (n,); 0 is normal and 1 anomalous unless ``normal`` names the normal label.
        normal: that label.

    Raises:
        DataError: no row has the label ``normal``, or there are only normal or only anomalous rows.
    """
    if normal is None and not np.isin(labels.astype(str), ("0", "1", "0.0", "1.0", "False", "True")).all():
        return None
    names = labels.astype(str)
    anomalous: NDArray[np.bool_] = (
        np.isin(names, ("1", "1.0", "True")) if normal is None else names != str(normal)
    )
    if anomalous.all() or not anomalous.any():
        only = "anomalous" if anomalous.all() else "normal"
        known = ", ".join(np.unique(names)[:10])
        raise DataError(
            f"labels: all {len(labels)} rows are {only} (the labels are {known}); detection needs normal and "
            "anomalous rows; give both, name the normal label with ",
            Argument("normal"),
            ", or leave the labels out",
        )
    return anomalous


def known_truth(samples: Samples, normal: str | None) -> Truth | None:
    """Return which rows are anomalies, or None where that is not known."""
    labels = samples.labels
    if samples.periods is not None:
        if samples.timestamps is None:
            raise DataError(
                "labels: they are periods of time, but the data are no series with times; give a .csv with a "
                "column of times to a model that was trained with windows"
            )
        times = samples.timestamps[:, np.newaxis]
        inside = (times >= samples.periods[:, 0]) & (times <= samples.periods[:, 1] + samples.span)
        labels, normal = np.asarray(inside.any(axis=1), np.int64), None
    if labels is None:
        if normal is not None:
            raise DataError(f"the normal label is said to be {normal!r}, but there are no labels; pass some")
        return None
    if labels.shape != (len(samples.rows),):
        remedy = ("; or name a column of the data with ", Argument("label_column")) if samples.series else ()
        raise DataError(
            f"labels: found {len(labels)}, expected one for each of {len(samples.rows)} "
            f"{'windows' if samples.series else 'rows'}",
            *remedy,
        )
    if len(np.unique(labels)) < 2 and normal is None:
        check_classes(labels)
    anomalous = anomalous_rows(labels, normal)
    if anomalous is None:
        return None
    return Truth(anomalous, samples.series, samples.timestamps, samples.periods, samples.span)


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


def runs_of(flags: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Return the indices of each run of consecutive true flags (n,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [np.arange(start, stop) for start, stop in edges.reshape(-1, 2)]
