"""The samples of an evaluation, and which of them are known to be anomalies."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError
from edgeae_runtime.errors import Argument

from .detection import Truth, anomalous_rows
from .downstream import check_classes


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
