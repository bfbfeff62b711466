"""Images over their reconstructions."""

import numpy as np

from ..layout import Page, png

IMAGES_SHOWN = 24


def section(page: Page) -> str:
    """Return images over what is made of them, from the least error to the largest; else nothing."""
    if not page.context.images:
        return ""
    errors = page.measured.errors
    order = np.argsort(errors)
    shown = order[np.linspace(0, len(order) - 1, min(IMAGES_SHOWN, len(order))).astype(int)]
    rows = page.context.samples.rows[shown]
    _, _, copies = page.model.reconstruct(rows)
    assert copies is not None
    made = page.context.opened.scaler.unscale(copies.reshape(rows.shape))
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
