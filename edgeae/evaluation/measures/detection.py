"""How well an error, or any other score, separates anomalies from normal rows."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..baselines import forest_scores
from ..context import Context
from ..ground_truth import Truth, runs_of
from ..report_table import ReportTable, share
from ..subjects import measure


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


def compute(context: Context) -> tuple[Detected, ...]:
    """Judge every subject, and the baselines where there are rows to fit them on; nothing without labels."""
    opened, truth, fit, rows = context.opened, context.truth, context.fit, context.samples.rows
    if truth is None:
        return ()
    errors = {name: found.errors for name, found in context.measured.items()}
    found = [detection(s.name, errors[s.name], s.threshold or 0.0, truth) for s in opened.subjects]
    if fit is None:
        return tuple(found)
    pca, rule = context.pca, context.rule
    held_out = fit if opened.source is None else opened.source.rows
    limit = rule.choose(measure(pca, opened.scaler, held_out).errors).value
    found.append(detection(f"{pca.name} reconstruction", errors[pca.name], limit, truth))
    forest = forest_scores(opened.scaler, fit)
    limit = rule.choose(forest(held_out)).value
    found.append(detection("isolation forest", forest(rows), limit, truth))
    return tuple(found)


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


def tables(found: tuple[Detected, ...]) -> list[ReportTable]:
    """Return the figures as a table, and of a series what became of each labelled episode."""
    if not found:
        return []
    return [_table(found), _episode_table(found)] if found[0].episodes else [_table(found)]


def _table(found: tuple[Detected, ...]) -> ReportTable:
    heading = ["score", "ROC AUC", "avg. precision", "precision", "recall", "F1", "false alarms", "missed"]
    series = found[0].false_events is not None
    rows = [
        [
            d.name,
            f"{d.roc_auc:.4f}",
            f"{d.average_precision:.4f}",
            f"{d.precision:.3f}",
            f"{d.recall:.3f}",
            f"{d.f1:.3f}",
            share(d.false_alarms),
            share(d.missed),
            *([str(d.false_events)] if series else []),
        ]
        for d in found
    ]
    note = "From precision on: at each one's own threshold. False alarms: share of the normal rows above it."
    if series:
        heading.append("false events")
        note += " False events: runs of alarms that touch no labelled episode."
    return ReportTable("Anomaly detection", [heading, *rows], note)


def _episode_table(detected: tuple[Detected, ...]) -> ReportTable:
    names = [d.name for d in detected]
    rows = []
    for number, episode in enumerate(detected[0].episodes):
        found = [d.episodes[number] for d in detected]
        cells = [f"{f.alarms} after {_delay(f.delay)}" if f.alarms else "missed" for f in found]
        rows.append([f"{episode.start} to {episode.end}", str(episode.rows), *cells])
    return ReportTable(
        "Alarms in each labelled episode",
        [["episode", "rows", *names], *rows],
        "Alarms, and the time from the episode's start to the first of them.",
    )


def _delay(delay: float | None) -> str:
    """Return a delay in words; without timestamps it is a whole number of rows, and looks like seconds."""
    if delay is None:
        return "-"
    for seconds, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if delay >= seconds:
            return f"{delay / seconds:.1f} {unit}"
    return f"{delay:.0f} s"
