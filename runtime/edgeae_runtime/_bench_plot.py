"""The picture of a benchmark: how long a call takes, and for what error and size."""

import math
from pathlib import Path
from typing import Any

from ._bench import Timing
from ._bench_bundle import Report
from ._errors import OutputError
from ._extras import import_extra
from ._files import new_file

_COLOURS = {"float32": "#4878a8", "quantized": "#d1702c", "TensorFlow": "#8c8c8c"}


FORMATS = (".png", ".svg", ".pdf")

_CHARACTER = 0.008
"""Of a note, as a share of a panel's width."""


def check_plot(path: Path) -> None:
    """Refuse, before any work, what `plot` could not draw.

    Raises:
        OutputError: the file's format is not one of `FORMATS`.
        EdgeaeError: matplotlib is not installed; with the extra that installs it.
    """
    if path.suffix not in FORMATS:
        raise OutputError(f"{path}: unknown picture format {path.suffix!r}; use {', '.join(FORMATS)}")
    import_extra("matplotlib.figure")


def plot(report: Report, path: Path) -> None:
    """Draw a line of p50 to p99 for each candidate, fastest on top, a panel for each number of rows a call.

    Raises:
        EdgeaeError: matplotlib is not installed, or the file cannot be written.
    """
    panels = {rows: [t for t in report.timings if t.rows == rows] for rows in report.advice}
    sizes = {f"{m.engine} {m.precision}": m.bytes for m in report.models}
    heights = [len(lines) + 1.5 for lines in panels.values()]
    figure: Any = import_extra("matplotlib.figure").Figure(
        figsize=(9, 0.34 * sum(heights) + 0.6), layout="constrained"
    )
    axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for axis, (rows, lines) in zip(axes, panels.items(), strict=True):
        _panel(axis, lines, sizes)
        unit = "row" if rows == 1 else "rows"
        axis.set_title(f"{rows:,} {unit} a call", loc="left", fontsize=10, fontweight="bold")
    axes[-1].set_xlabel(
        "µs a call (log): dot = median, bar to the 99th percentile; left is faster", fontsize=9
    )
    _legend(figure, {_kind(t) for t in report.timings})
    figure.suptitle(f"{report.bundle} on {report.machine.processor}", fontsize=11, x=0.02, ha="left")
    with new_file(path) as work:
        figure.savefig(work, dpi=130, format=path.suffix[1:])


def _panel(axis: Any, timings: list[Timing], sizes: dict[str, int]) -> None:
    lines = sorted(timings, key=lambda t: t.p50)
    for place, timing in enumerate(lines):
        colour = _COLOURS[_kind(timing)]
        axis.plot([timing.p50, max(timing.p50, timing.p99)], [place, place], color=colour, lw=2, alpha=0.5)
        axis.plot([timing.p50], [place], "o", color=colour, ms=7)
        axis.annotate(
            _note(timing, sizes),
            (max(timing.p50, timing.p99), place),
            (8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axis.set_yticks(range(len(lines)), [_label(t) for t in lines], fontsize=9)
    axis.set_ylim(len(lines) - 0.4, -0.6)
    axis.set_xscale("log")
    low = min(timing.p50 for timing in lines)
    widths = [math.log(max(t.p50, t.p99) / low) / (0.93 - _CHARACTER * len(_note(t, sizes))) for t in lines]
    width = max(*widths, math.log(3))
    axis.set_xlim(low * math.exp(-0.03 * width), low * math.exp(width))
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", alpha=0.25)


def _note(timing: Timing, sizes: dict[str, int]) -> str:
    note = f"{timing.p50:,.{0 if timing.p50 >= 100 else 1}f} µs"
    if timing.error_median is None:
        return note
    return f"{note} · error moves {timing.error_median:.2%} · {sizes[timing.candidate] / 1000:,.0f} kB"


def _legend(figure: Any, kinds: set[str]) -> None:
    for kind, colour in _COLOURS.items():
        if kind in kinds:
            figure.axes[0].plot([], [], "o", color=colour, label=kind)
    figure.legend(loc="outside upper right", ncols=len(kinds), fontsize=8, frameon=False)


def _kind(timing: Timing) -> str:
    if timing.error_median is None:
        return "TensorFlow"
    return "float32" if timing.precision == "float32" else "quantized"


def _label(timing: Timing) -> str:
    return f"{timing.candidate}, {timing.threads} threads" if timing.threads > 1 else timing.candidate
