"""The page that sections write to, and the pieces of it that they share."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import Manifest

from ..evaluation.context import Context
from ..evaluation.evaluate import Outcome
from ..evaluation.report_table import ReportTable
from ..evaluation.subjects import Evaluated, Measured

Chart: TypeAlias = dict[str, Any]
"""A figure, as the page's script wants it; see ``page/charts.js``."""


@dataclass(frozen=True)
class Page:
    """What a section may show, and where it leaves the data of its figures."""

    name: str
    """Of the run."""
    where: str
    """What was evaluated on, in words."""
    outcome: Outcome
    history: dict[str, list[float]]
    """``loss``, ``val_loss`` and more, per epoch."""
    config: dict[str, Any]
    """The run's settings."""
    manifest: Manifest | None
    """Of the bundle that was exported."""
    charts: dict[str, Chart] = field(default_factory=dict)
    """By the key that `figure` is given."""
    latent: dict[str, Any] = field(default_factory=dict)
    """The points of the latent space, for ``page/latent.js``."""

    @property
    def context(self) -> Context:
        """What the evaluation was computed from."""
        return self.outcome.context

    @property
    def model(self) -> Evaluated:
        """The Keras model of the run."""
        return self.context.opened.subjects[0]

    @property
    def measured(self) -> Measured:
        """Codes and errors of the Keras model."""
        return self.context.measured[self.model.name]

    @property
    def is_series(self) -> bool:
        """Whether the rows are windows of a series."""
        return self.context.samples.series or self.context.opened.input.window is not None


def figure(key: str, caption: str = "") -> str:
    """Return the place of a chart of `Page.charts`."""
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


def png(image: NDArray[Any], low: float, high: float) -> str:
    """Return an image (height, width) or (height, width, channels) as the address of a PNG in the page."""
    from PIL import Image

    shares = np.clip((image.astype(np.float64) - low) / ((high - low) or 1.0), 0, 1)
    pixels = np.round(255 * shares).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def numbers(values: Any, digits: int = 5) -> list[float | None]:
    """Return numbers with so many digits; what is not finite becomes a gap."""
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values]
