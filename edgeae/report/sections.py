"""The sections of the report's page, as HTML; what they draw is added to the page's charts."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from edgeae_runtime import Manifest

from ..evaluation.evaluate import Outcome
from ..evaluation.tables import ReportTable
from .charts import (
    Chart,
    histogram_chart,
    is_image,
    loss_chart,
    png,
    rate_chart,
    robustness_charts,
    series_chart,
    window_charts,
)

IMAGES_SHOWN = 24
FEATURES_SHOWN = 20


def curves(charts: dict[str, Chart], history: dict[str, list[float]], loss: str) -> str:
    """Return the section of the loss and the learning rate."""
    charts["loss"] = loss_chart(history, loss)
    text = "<section><h2>Loss</h2>" + _figure(
        "loss", "Both should fall together; where validation turns upwards, the model learns rows by heart."
    )
    if len(set(history.get("learning_rate", ()))) > 1:
        charts["rate"] = rate_chart(history["learning_rate"])
        text += _figure("rate", "")
    return text + "</section>"


def latent() -> str:
    """Return the section of the latent space, which the page's script fills."""
    buttons = "".join(
        f"<button type='button' data-act='{act}'{label}>{text}</button>"
        for act, text, label in (
            ("2d", "2-D", ""),
            ("3d", "3-D", ""),
            ("in", "+", " aria-label='zoom in'"),
            ("out", "−", " aria-label='zoom out'"),  # noqa: RUF001  # a minus, as wide as the plus
            ("reset", "Reset", ""),
        )
    )
    return (
        "<section><h2>Latent space</h2><div class='panel latent'>"
        f"<div class='bar'>{buttons}</div><div class='keys'></div>"
        "<canvas tabindex='0' role='img' aria-label='Codes on their first principal components; turn with "
        "the arrow keys, zoom with plus and minus'></canvas></div>"
        "<p class='note'>Each point is a row's code, on the codes' first principal components (with their "
        "share of the variance). Drag to turn or move, wheel or two fingers to zoom, hover or tap for a row. "
        "Without labels the colour is the error, from blue (least) to orange.</p></section>"
    )


def reconstructions(charts: dict[str, Chart], outcome: Outcome) -> str:
    """Return originals over reconstructions: images, a series and its windows, or a table's columns."""
    if is_image(outcome):
        return _images(outcome)
    if outcome.samples.series or outcome.opened.input.window is not None:
        charts["series"] = series_chart(outcome, "keras")
        found = window_charts(outcome, "keras")
        charts.update(found)
        grid = "".join(_figure(key, "") for key in found)
        return (
            "<section><h2>Error over time</h2>"
            + _figure("series", "Error of each window; shaded: what was labelled as abnormal.")
            + f"<h2>Windows and their reconstructions</h2><div class='grid'>{grid}</div>"
            "<p class='note'>In raw units; of several features, the one that is off most.</p></section>"
        )
    return table_section(_features(outcome))


def _images(outcome: Outcome) -> str:
    errors = outcome.measured["keras"].errors
    order = np.argsort(errors)
    shown = order[np.linspace(0, len(order) - 1, min(IMAGES_SHOWN, len(order))).astype(int)]
    rows = outcome.samples.rows[shown]
    _, _, copies = outcome.opened.subjects[0].reconstruct(rows)
    assert copies is not None
    made = outcome.opened.scaler.unscale(copies.reshape(rows.shape))
    low, high = float(rows.min()), float(rows.max())
    items = "".join(
        f"<li><img src='{png(row, low, high)}' alt='row {index + 1}'>"
        f"<img src='{png(copy, low, high)}' alt='its reconstruction'><span>{errors[index]:.4f}</span></li>"
        for index, row, copy in zip(shown, rows, made, strict=True)
    )
    return (
        f"<section><h2>Originals over reconstructions</h2><ul class='pairs'>{items}</ul>"
        "<p class='note'>With the reconstruction error, from the least of all rows to the largest, in even "
        "steps of rank.</p></section>"
    )


def _features(outcome: Outcome) -> ReportTable:
    """Return which columns of a table are reconstructed worst."""
    rows = outcome.samples.rows[:10_000]
    _, _, copies = outcome.opened.subjects[0].reconstruct(rows)
    assert copies is not None
    scaled = outcome.opened.scaler.scale(rows).reshape(len(rows), -1).astype(np.float64)
    errors, spread = np.square(scaled - copies).mean(axis=0), scaled.var(axis=0)
    names = outcome.opened.input.features or tuple(f"value {i + 1}" for i in range(len(errors)))
    order = np.argsort(-errors)[:FEATURES_SHOWN]
    body = [
        [names[i], f"{errors[i]:.4g}", f"{errors[i] / spread[i]:.1%}" if spread[i] else "constant"]
        for i in order
    ]
    return ReportTable(
        "What is reconstructed worst",
        [["column", "MSE", "of its variance"], *body],
        f"The {len(body)} columns with the largest error of {len(errors)}. More than all of its variance: "
        "the column's mean would do better.",
    )


def distribution(charts: dict[str, Chart], outcome: Outcome) -> str:
    """Return the section of the errors' histogram."""
    charts["errors"] = histogram_chart(outcome, "keras")
    return "<section><h2>How the error is distributed</h2>" + _figure("errors", "") + "</section>"


def noise(charts: dict[str, Chart], outcome: Outcome) -> str:
    """Return the section of the robustness curves; nothing where none were measured."""
    found = robustness_charts(outcome.evaluation)
    charts.update(found)
    if not found:
        return ""
    grid = "".join(_figure(key, "") for key in found)
    return (
        f"<section><h2>What noise does</h2><div class='grid'>{grid}</div><p class='note'>Error of what is "
        "made of the noisy input, against the clean one. A model whose curve follows the identity copy has "
        "learned to copy; one that knows its data stays below.</p></section>"
    )


def _figure(key: str, caption: str) -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f"<figure class='panel chart' data-chart='{key}'><div class='plot'></div>"
        f"<noscript><p>The chart needs JavaScript.</p></noscript>{below}</figure>"
    )


def table_section(table: ReportTable) -> str:
    """Return a table as a section."""
    head, *body = table.rows
    cells = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in head)
    rows = "".join(f"<tr>{_cells(row)}</tr>" for row in body)
    return (
        f"<section><h2>{escape(table.title)}</h2><div class='scroll' tabindex='0' role='region' "
        f"aria-label='{escape(table.title)}'><table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>"
        f"</div><p class='note'>{escape(table.note)}</p></section>"
    )


def _cells(row: Sequence[str]) -> str:
    first, *others = row
    return f"<th scope='row'>{escape(first)}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in others)


def fidelity(manifest: Manifest) -> ReportTable:
    """Return a bundle's artifacts with their fidelity."""
    heading = ["artifact", "kB", "error moves", "99 %", "rank corr.", "cosine", "threshold", "false alarms"]
    rows = [
        [
            a.path,
            f"{a.bytes / 1000:.1f}",
            f"{a.fidelity.error_median:.4%}",
            f"{a.fidelity.error_p99:.3%}",
            f"{a.fidelity.rank_correlation:.6f}",
            "" if a.fidelity.embedding_cosine is None else f"{a.fidelity.embedding_cosine:.6f}",
            f"{a.threshold.value:.5g}",
            f"{a.fidelity.false_alarms:.2%}",
        ]
        for a in manifest.artifacts
    ]
    return ReportTable(
        "Does the exported bundle say the same?",
        [heading, *rows],
        "Against the float Keras model on held-out rows: the median and 99th percentile of the relative "
        f"change of the error. The float model's own threshold is {manifest.reference.value:.5g}.",
    )


def settings_of(config: dict[str, Any]) -> str:
    """Return the settings of a run, folded away."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(key)}</th><td class='words'>{escape(str(value))}</td></tr>"
        for key, value in config.items()
    )
    return (
        "<details><summary>Settings of the run</summary><div class='scroll'><table><tbody>"
        f"{rows}</tbody></table></div></details>"
    )
