"""How well an error, or any other score, separates anomalies from normal rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError
from edgeae_runtime.errors import Argument


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Detection of one labelled episode of a series."""

    start: str
    """Time, or number of the row from 1, of its first row; ``end``: of its last."""
    end: str
    rows: int
    alarms: int
    """Number of its rows above the threshold."""
    delay: float | None
    """From its start to its first alarm, in seconds, or in rows without timestamps; None: missed."""


class Detected(msgspec.Struct, frozen=True, kw_only=True):
    """How well one score separates anomalies from normal rows."""

    name: str
    roc_auc: float
    """Chance that an anomaly scores above a normal row."""
    average_precision: float
    threshold: float
    """In units of the score."""
    precision: float
    """Share of the alarms that are anomalies; 0 where there are none. The next two likewise."""
    recall: float
    f1: float
    false_alarms: float
    """Share of the normal rows above the threshold."""
    missed: float
    """Share of the anomalies not above it."""
    episodes: tuple[Found, ...] = ()
    """For a series."""
    false_events: int | None = None
    """For a series: runs of consecutive alarms that touch no labelled episode."""


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


def detection(name: str, scores: NDArray[Any], threshold: float, truth: Truth) -> Detected:
    """Judge scores (n,), of which higher ones are stranger, at a threshold."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    anomalous, alarms = truth.anomalous, scores > threshold
    hits = int(np.sum(alarms & anomalous))
    precision, recall = hits / max(1, int(alarms.sum())), hits / int(anomalous.sum())
    episodes = _episodes(truth) if truth.series else []
    return Detected(
        name=name,
        roc_auc=float(roc_auc_score(anomalous, scores)),
        average_precision=float(average_precision_score(anomalous, scores)),
        threshold=float(threshold),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if hits else 0.0,
        false_alarms=float(np.mean(alarms[~anomalous])),
        missed=1 - recall,
        episodes=tuple(_found(rows, alarms, truth, i) for i, rows in enumerate(episodes)),
        false_events=_false_events(alarms, anomalous) if truth.series else None,
    )


def runs_of(flags: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Return the indices of each run of consecutive true flags (n,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [np.arange(start, stop) for start, stop in edges.reshape(-1, 2)]


def _episodes(truth: Truth) -> Sequence[NDArray[np.intp]]:
    if truth.periods is None or truth.timestamps is None:
        return runs_of(truth.anomalous)
    span = np.timedelta64(0, "us") if truth.span is None else truth.span
    return [
        np.flatnonzero((truth.timestamps >= start) & (truth.timestamps <= end + span))
        for start, end in truth.periods
    ]


def _found(rows: NDArray[np.intp], alarms: NDArray[np.bool_], truth: Truth, number: int) -> Found:
    """Say what became of an episode; its label may start before its first row."""
    times = truth.timestamps
    raised = rows[alarms[rows]]
    if times is None:
        start, end = str(rows[0] + 1), str(rows[-1] + 1)
        delay = float(raised[0] - rows[0]) if len(raised) else None
    else:
        first, last = (times[rows[0]], times[rows[-1]]) if truth.periods is None else truth.periods[number]
        start, end = (str(np.datetime64(t, "s")).replace("T", " ") for t in (first, last))
        delay = float((times[raised[0]] - first) / np.timedelta64(1, "s")) if len(raised) else None
    return Found(start=start, end=end, rows=len(rows), alarms=len(raised), delay=delay)


def _false_events(alarms: NDArray[np.bool_], anomalous: NDArray[np.bool_]) -> int:
    return sum(not anomalous[run].any() for run in runs_of(alarms))
