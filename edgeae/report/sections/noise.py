"""What noise does: a curve for each model and each kind of noise."""

from collections.abc import Sequence

from ...evaluation.baselines import IDENTITY
from ...evaluation.measures.robustness import Curve
from ..layout import Chart, Page, figure, numbers


def section(page: Page) -> str:
    """Return the section of the robustness curves; nothing where none were measured."""
    found = noise_charts(page.outcome.evaluation.robustness)
    page.charts.update(found)
    if not found:
        return ""
    grid = "".join(map(figure, found))
    return (
        f"<section><h2>What noise does</h2><div class='grid'>{grid}</div><p class='note'>Error of what is "
        "made of the noisy input, against the clean one. A model whose curve follows the identity copy has "
        "learned to copy; one that knows its data stays below.</p></section>"
    )


def noise_charts(curves: Sequence[Curve]) -> dict[str, Chart]:
    """Draw one chart a kind of noise."""
    charts: dict[str, Chart] = {}
    for curve in curves:
        what = "standard deviation, scaled units" if curve.noise == "gaussian" else "share of values hit"
        chart = charts.setdefault(
            f"noise-{curve.noise}",
            {
                "title": curve.noise.capitalize().replace("-", " "),
                "alt": f"Error against the clean input as {curve.noise} noise grows.",
                "xlabel": what,
                "ylabel": "MSE",
                "fromZero": True,
                "height": 240,
                "series": [],
            },
        )
        chart["series"].append(
            {
                "name": curve.name,
                "x": list(curve.levels),
                "y": numbers(curve.mse),
                "dash": curve.name == IDENTITY,
            }
        )
    return charts
