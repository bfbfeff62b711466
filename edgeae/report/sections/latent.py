"""The codes on their first three principal components, to turn and to look at."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layout import Page, numbers, png

MOST_POINTS = 1500
"""Most rows shown."""
MOST_PIXELS = 700_000
"""Most pixels of the small images that are shown with the points; beyond, fewer rows are."""


def section(page: Page) -> str:
    """Return the section of the latent space, which the page's script fills."""
    page.latent.update(latent_points(page))
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


def latent_points(page: Page, seed: int = 0) -> dict[str, Any]:
    """Return some rows' codes on their first three principal components, for the page's canvas."""
    from sklearn.decomposition import PCA

    context, codes, errors = page.context, page.measured.codes, page.measured.errors
    shape = context.opened.input.shape
    most = min(MOST_POINTS, MOST_PIXELS // (shape[0] * shape[1])) if context.images else MOST_POINTS
    chosen = np.sort(np.random.default_rng(seed).permutation(len(codes))[: max(100, most)])
    pca = PCA(min(3, *codes.shape)).fit(codes)
    points = pca.transform(codes[chosen])
    points = np.column_stack([points, np.zeros((len(points), 3 - points.shape[1]))])
    points /= max(float(np.quantile(np.abs(points), 0.998)), float(np.finfo(np.float32).tiny))
    labels, groups, names = context.samples.labels, None, None
    if context.truth is not None and (labels is None or len(np.unique(labels)) > 2):
        names = ["normal", "anomalous"]
        groups = context.truth.anomalous[chosen].astype(int).tolist()
    elif labels is not None:
        known, places = np.unique(labels[chosen], return_inverse=True)
        names, groups = [str(name) for name in known], places.tolist()
    rank = np.argsort(np.argsort(errors[chosen])) / max(1, len(chosen) - 1)
    ratios = pca.explained_variance_ratio_
    return {
        "points": np.round(points, 3).tolist(),
        "rows": chosen.tolist(),
        "groups": groups,
        "names": names,
        "errors": {"values": numbers(errors[chosen]), "rank": numbers(rank)},
        "axes": [f"component {i + 1} ({share:.0%})" for i, share in enumerate(np.nan_to_num(ratios))],
        "sprite": _sprite(context.samples.rows[chosen]) if context.images else None,
    }


def _sprite(images: NDArray[Any]) -> dict[str, Any]:
    """Return small images side by side in one picture."""
    count, height, width = images.shape[:3]
    columns = int(np.ceil(np.sqrt(count)))
    sheet = np.full((columns * int(np.ceil(count / columns)), *images.shape[1:]), images.min(), images.dtype)
    sheet[:count] = images
    sheet = sheet.reshape(-1, columns, *images.shape[1:]).swapaxes(1, 2)
    sheet = sheet.reshape(-1, columns * width, *images.shape[3:])
    source = png(sheet, float(images.min()), float(images.max()))
    return {"src": source, "width": width, "height": height, "columns": columns}
