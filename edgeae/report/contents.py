"""The table of the page's sections, in their order."""

from collections.abc import Callable

from .layout import Page
from .sections import (
    columns,
    distribution,
    fidelity,
    images,
    latent,
    loss,
    measures,
    noise,
    series,
    settings,
    summary,
)

SECTIONS: dict[str, Callable[[Page], str]] = {
    "summary": summary.section,
    "loss": loss.section,
    "latent space": latent.section,
    "images": images.section,
    "series": series.section,
    "columns": columns.section,
    "distribution of the error": distribution.section,
    "noise": noise.section,
    "figures": measures.section,
    "fidelity": fidelity.section,
    "settings": settings.section,
}
"""By the name that the documents have for it: a function that returns HTML, or nothing where the data have
nothing to show, and leaves its charts with the page."""
