"""The error of a series over time, and some of its windows over their reconstructions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluation.ground_truth import runs_of
from ..layout import Chart, Page, figure, numbers

MOST_STEPS = 2500
"""Most points of a series; a longer one is shown by the largest error in each of so many parts."""


def section(page: Page) -> str:
    """Return the errors in order of time and three windows; nothing where the rows are no series."""
    if not page.is_series:
        return ""
    page.charts["series"] = error_chart(page)
    found = window_charts(page)
    page.charts.update(found)
    grid = "".join(map(figure, found))
    return (
        "<section><h2>Error over time</h2>"
        + figure("series", "Error of each window; shaded: what was labelled as abnormal.")
        + f"<h2>Windows and their reconstructions</h2><div class='grid'>{grid}</div>"
        "<p class='note'>In raw units; of several features, the one that is off most.</p></section>"
    )


def error_chart(page: Page) -> Chart:
    """Draw the error of a series over time, with its threshold and what was labelled."""
    samples, truth = page.context.samples, page.context.truth
    errors, times = page.measured.errors, samples.timestamps
    x = np.arange(1, len(errors) + 1, dtype=np.float64) if times is None else _seconds(times)
    bands: list[list[float]] = []
    if samples.periods is not None:
        bands = [[float(a), float(b)] for a, b in _seconds(samples.periods)]
    elif truth is not None:
        bands = [[float(x[run[0]]), float(x[run[-1]])] for run in runs_of(truth.anomalous)]
    kept = peaks(errors)
    limit = page.model.threshold
    return {
        "alt": f"Reconstruction error of {len(errors)} windows in order, with the threshold"
        + (f" and {len(bands)} labelled episodes." if bands else "."),
        "xlabel": "window" if times is None else f"time, {_day(times[0])} to {_day(times[-1])}",
        "ylabel": "error",
        "time": times is not None,
        "ylog": bool(errors.min() > 0),
        "bands": bands,
        "series": [{"name": "error", "x": numbers(x[kept], 12), "y": numbers(errors[kept]), "thin": True}],
        "rules": [] if limit is None else [{"axis": "y", "at": limit, "label": "threshold"}],
    }


def window_charts(page: Page) -> dict[str, Chart]:
    """Draw some windows over what is made of them: an ordinary one, and the strangest ones."""
    errors, opened = page.measured.errors, page.context.opened
    order = np.argsort(errors)
    shown = {
        "median": order[len(order) // 2],
        "95 %": order[int(0.95 * (len(order) - 1))],
        "largest": order[-1],
    }
    scaler, features = opened.scaler, opened.input.features
    charts: dict[str, Chart] = {}
    for what, index in shown.items():
        row = page.context.samples.rows[index : index + 1]
        _, _, copy = page.model.reconstruct(row)
        assert copy is not None  # a Keras model gives one
        made = scaler.unscale(copy.reshape(row.shape))[0].reshape(len(row[0]), -1)
        given = row[0].reshape(len(row[0]), -1).astype(np.float64)
        feature = int(np.argmax(np.square(given - made).mean(axis=0)))
        label = features[feature] if features and len(features) == given.shape[1] else f"value {feature + 1}"
        charts[f"window-{len(charts)}"] = {
            "title": f"{what.capitalize()} error: {errors[index]:.3g}",
            "alt": f"A window and its reconstruction, of {what} error.",
            "xlabel": "reading",
            "ylabel": label,
            "height": 210,
            "whole": True,
            "series": [
                {"name": "original", "x": list(range(1, len(given) + 1)), "y": numbers(given[:, feature])},
                {
                    "name": "reconstruction",
                    "x": list(range(1, len(given) + 1)),
                    "y": numbers(made[:, feature]),
                },
            ],
        }
    return charts


def _day(time: Any) -> str:
    return str(np.datetime64(time, "D"))


def _seconds(times: NDArray[Any]) -> NDArray[np.float64]:
    return times.astype("datetime64[ms]").astype(np.int64) / 1000


def peaks(errors: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return which points of a long series to show: the largest of each part."""
    part = -(-len(errors) // MOST_STEPS)
    starts = np.arange(0, len(errors), part)
    return np.array([start + int(np.argmax(errors[start : start + part])) for start in starts])
