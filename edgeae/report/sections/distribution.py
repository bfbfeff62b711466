"""How the errors of the rows are distributed."""

import numpy as np

from ..layout import Chart, Page, figure, numbers

BARS = 40
LOG_AXIS_RATIO = 10
"""Ratio of the largest shown error to the median above which the axis is logarithmic."""


def section(page: Page) -> str:
    """Return the section of the errors' histogram."""
    page.charts["errors"] = histogram_chart(page)
    return "<section><h2>How the error is distributed</h2>" + figure("errors") + "</section>"


def histogram_chart(page: Page) -> Chart:
    """Draw how the errors of one model are distributed, anomalies apart where they are known."""
    errors, truth = page.measured.errors, page.context.truth
    figures = page.outcome.evaluation.error[0]
    top = max(figures.quantiles["0.99"], 1.05 * (figures.threshold or 0)) or 1.0
    low = float(errors.min())
    is_wide = low > 0 and top > LOG_AXIS_RATIO * figures.quantiles["0.5"]
    edges = np.geomspace(low, top, BARS + 1) if is_wide else np.linspace(0, top, BARS + 1)
    parts = [("rows", np.full(len(errors), True), 0)]
    if truth is not None:
        parts = [("normal", ~truth.anomalous, 0), ("anomalous", truth.anomalous, 1)]
    series = []
    for label, chosen, color in parts:
        counts, _ = np.histogram(np.clip(errors[chosen], edges[0], edges[-1]), edges)
        shares = 100 * counts / max(1, chosen.sum())
        series.append({"name": label, "x": numbers(edges), "y": numbers(shares), "color": color})
    chart: Chart = {
        "kind": "bars",
        "alt": f"Histogram of the reconstruction error of {len(errors)} rows; the median is "
        f"{figures.quantiles['0.5']:.4g}.",
        "xlabel": "reconstruction error (the last bar: all larger ones)",
        "ylabel": "% of the rows",
        "fromZero": True,
        "xlog": is_wide,
        "series": series,
    }
    if figures.threshold is not None:
        chart["rules"] = [{"axis": "x", "at": figures.threshold, "label": "threshold"}]
    return chart
