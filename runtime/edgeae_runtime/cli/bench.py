"""The command ``bench``: what each model of a bundle costs on this machine."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import EdgeaeError, EngineError, OutputError
from ..extras import import_extra
from .terminal import format_table, progress_bar

if TYPE_CHECKING:
    from ..bench.bench import Peers
    from ..bench.report import Report, Timing
    from ..bundle.archive import Bundle

PICTURES = (".png", ".svg", ".pdf")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--against", metavar="MODEL", help="A .keras file or run of the same model: TensorFlow beside it."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures to this file.")
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="Draw them to this file, a .png.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 2),
    show_default=True,
    help="Number of threads; may be given several times, as --batch.",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 32, 1024),
    show_default=True,
    help="Number of rows a call.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=9.0,
    show_default=True,
    help="For all timings, besides the cold starts.",
)
def bench(
    bundle: Path,
    against: str | None,
    json_file: Path | None,
    picture: Path | None,
    threads: tuple[int, ...],
    batches: tuple[int, ...],
    seconds: float,
) -> None:
    """Measure latency, memory and cold start of each scorer of a bundle here, and say which one to use.

    All candidates take turns, so that a busy machine slows all of them alike; ratios have a 95 %
    confidence interval. Threads share the rows of large calls only.

    \b
    Examples:
      edgeae bench pump.edgeae
      edgeae bench pump.edgeae --json pump.json --plot pump.png
      edgeae bench pump.edgeae --against pump.run --threads 1 --batch 1
    """
    import msgspec

    from ..bench.bench import bench as run_bench
    from ..bundle.archive import Bundle
    from ..files import check_file_target, new_file

    for target in filter(None, (json_file, picture)):
        check_file_target(target)
    if picture:
        import_extra("matplotlib.figure")
        if picture.suffix not in PICTURES:
            raise OutputError(f"{picture}: not a picture's name; use {', '.join(PICTURES)}")
    opened = Bundle(bundle)
    peers = _load_peers(against, opened) if against else None
    with progress_bar("measuring", 1 + len(batches)) as bar:
        settings: Any = {"threads": threads, "batches": batches, "seconds": seconds, "peers": peers}
        report = run_bench(opened, progress=lambda: bar.update(1), **settings)
    click.echo(_text(report))
    if json_file:
        with new_file(json_file) as work:
            work.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if not report.advice:
        raise EngineError(f"{bundle}: none of its scorers runs right here; see `edgeae verify`")
    if picture:
        _plot(report, picture)


def _load_peers(model: str, bundle: "Bundle") -> "Peers":
    """Return TensorFlow's ways to do a scorer's work, from the distribution that has them."""
    for found in entry_points(group="edgeae.bench"):
        peers: Peers = found.load()(model, bundle.manifest)
        return peers
    raise EdgeaeError("--against needs TensorFlow, which is not installed here; pip install edgeae")


def _text(report: "Report") -> str:
    models = [["scorer", "kB", "error moves", "p99", "rank corr.", "cold start ms", "memory MB", ""]]
    for model, before in zip(report.models, [None, *report.models], strict=False):
        moves, cold = model.fidelity, ["-", "-"]
        again = before is not None and before.artifact == model.artifact
        name = f"{model.artifact} with {model.engine}" if again else model.artifact
        if model.cold_seconds and model.cold_bytes:
            cold = [f"{1000 * model.cold_seconds:.0f}", f"{model.cold_bytes / 1e6:.0f}"]
        cells = [f"{moves.error_median:.3%}", f"{moves.error_p99:.3%}", f"{moves.rank_correlation:.5f}"]
        models.append([name, f"{model.bytes / 1000:.1f}", *cells, *cold, model.reason or ""])
    timings = [["candidate", "rows", "threads", "p50 µs", "p90 µs", "p99 µs", "rows/s", "as fast as float32"]]
    for timing in report.timings:
        cells = [timing.candidate, f"{timing.rows:,}", str(timing.threads or "-")]
        cells += [f"{value:,.1f}" for value in (timing.p50, timing.p90, timing.p99)]
        timings.append([*cells, f"{timing.rows_per_second:,.0f}", _interval(timing)])
    notes = [f"Warning: {text}" for text in report.warnings]
    notes += [f"{rows:,} row{'s' * (rows > 1)} a call: {text}" for rows, text in report.advice.items()]
    heading = f"{report.bundle} on {_processor(report)}, {report.machine['cores']} cores"
    parts = [heading, format_table(models), format_table(timings), "\n".join(notes)]
    return "\n\n".join(parts).rstrip()


def _processor(report: "Report") -> str:
    return f"{report.machine['processor']} ({report.machine['kind'] or 'of unknown kind'})"


def _interval(timing: "Timing") -> str:
    if timing.faster is None:
        return "-"
    estimate, low, high = timing.faster
    return "1" if low == high == 1 else f"{estimate:.3g} ({low:.3g} to {high:.3g})"


def _plot(report: "Report", path: Path) -> None:
    """Draw a dot at the median and a line to the 99th percentile of each candidate, by rows a call."""
    from ..files import new_file

    panels = {rows: [t for t in report.timings if t.rows == rows] for rows in report.advice}
    heights = [len(timings) + 2 for timings in panels.values()]
    size = 9, 0.3 * sum(heights) + 0.6
    figure: Any = import_extra("matplotlib.figure").Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for axis, (rows, timings) in zip(axes, panels.items(), strict=True):
        for timing in sorted(timings, key=lambda timing: -timing.p50):
            colour, threads = "grey", f" ({timing.threads} threads)" if timing.threads > 1 else ""
            label = f"{timing.candidate}{threads}: {timing.p50:,.1f} µs"
            if timing.fidelity:
                label += f", error moves {timing.fidelity.error_median:.2%}"
                colour = "C0" if timing.precision == "float32" else "C1"
            axis.plot([timing.p50, timing.p99], [label, label], "o-", color=colour, markevery=[0])
        axis.set(xscale="log", title=f"rows a call: {rows:,}")
        axis.grid(axis="x", alpha=0.25)
    axes[-1].set_xlabel("µs a call: dot = median, line to the 99th percentile")
    figure.suptitle(f"{report.bundle} on {_processor(report)}")
    with new_file(path) as work:
        figure.savefig(work, dpi=130)
