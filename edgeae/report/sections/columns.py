"""Which columns of a table are reconstructed worst."""

import numpy as np

from ...evaluation.report_table import ReportTable
from ..layout import Page, table_section

FEATURES_SHOWN = 20
MOST_ROWS = 10_000
"""Rows that are looked at, the first ones."""


def section(page: Page) -> str:
    """Return the columns with the largest error; nothing for images and series."""
    if page.context.images or page.is_series:
        return ""
    opened, rows = page.context.opened, page.context.samples.rows[:MOST_ROWS]
    _, _, copies = page.model.reconstruct(rows)
    assert copies is not None
    scaled = opened.scaler.scale(rows).reshape(len(rows), -1).astype(np.float64)
    errors, spread = np.square(scaled - copies).mean(axis=0), scaled.var(axis=0)
    names = opened.input.features or tuple(f"value {i + 1}" for i in range(len(errors)))
    order = np.argsort(-errors)[:FEATURES_SHOWN]
    body = [
        [names[i], f"{errors[i]:.4g}", f"{errors[i] / spread[i]:.1%}" if spread[i] else "constant"]
        for i in order
    ]
    table = ReportTable(
        "What is reconstructed worst",
        [["column", "MSE", "of its variance"], *body],
        f"The {len(body)} columns with the largest error of {len(errors)}. More than all of its variance: "
        "the column's mean would do better.",
    )
    return table_section(table)
