"""The command ``bench``: what each model of a bundle costs on this machine."""

from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
import numpy as np

from ._bundle import Bundle
from ._errors import DataError, EngineError
from ._files import check_file_target, new_file
from ._manifest import Floats
from ._progress import progress_bar
from ._results import format_table

if TYPE_CHECKING:
    from ._bench import Interval, Timing
    from ._bench_bundle import Report

STEPS = 1000
"""Of the progress bar."""

DATA_ROWS = 1024
"""Read of DATA at most."""


class Numbers(click.ParamType):  # type: ignore[type-arg]  # older versions of click have none
    """Positive whole numbers with commas between them, each once."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read them."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(dict.fromkeys(int(part) for part in value.split(",")))
        except ValueError:
            numbers = (0,)
        if min(numbers) < 1:
            self.fail(f"{value!r} is not a list of positive whole numbers, such as 1,2", param, ctx)
        return numbers


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--against", metavar="MODEL", help="A .keras file or run of the same model: TensorFlow beside it."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures to this file.")
@click.option(
    "--plot", "picture", type=click.Path(path_type=Path), help="Draw them to this file (.png, .svg)."
)
@click.option("--threads", type=Numbers(), default="1,2", show_default=True, help="Numbers of threads.")
@click.option(
    "--batches", type=Numbers(), default="1,32,1024", show_default=True, help="Numbers of rows a call."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=9.0,
    show_default=True,
    help="For all timings, besides the cold starts.",
)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Rows to run on instead of the bundle's golden inputs."
)
def bench(
    bundle: Path,
    against: str | None,
    json_file: Path | None,
    picture: Path | None,
    threads: tuple[int, ...],
    batches: tuple[int, ...],
    seconds: float,
    data: Path | None,
) -> None:
    """Measure latency, memory and cold start of each scorer of a bundle here, and say which one to use.

    All candidates take turns, so that a busy machine slows all of them alike; ratios have a 95 %
    confidence interval. Threads share the rows of large calls only.

    \b
    Examples:
      edgeae bench pump.edgeae
      edgeae bench pump.edgeae --json pump.json --plot pump.png
      edgeae bench pump.edgeae --against pump.run --threads 1 --batches 1
    """
    from ._bench_bundle import bench as run_bench
    from ._bench_bundle import load_peers
    from ._bench_plot import check_plot, plot

    for target in filter(None, (json_file, picture)):
        check_file_target(target)
    if picture:
        check_plot(picture)
    opened = Bundle(bundle)
    samples = _read(opened, data) if data else None
    peers = load_peers(against, opened) if against else None
    with progress_bar("measuring", STEPS) as bar:
        report = run_bench(
            opened,
            samples,
            threads=threads,
            batches=batches,
            seconds=seconds,
            peers=peers,
            progress=lambda share: bar.update(round(share * STEPS) - bar.pos),
        )
    click.echo(_text(report))
    if json_file:
        with new_file(json_file) as work:
            work.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if not report.advice:
        raise EngineError(f"{bundle}: none of its scorers runs right here; see `edgeae verify`")
    if picture:
        plot(report, picture)


def _read(bundle: Bundle, path: Path) -> Floats:
    """Return the first rows of a file, in the shape that the bundle takes."""
    from ._samples import sample_batches

    expected = bundle.manifest.input
    parts = (samples for _, samples in sample_batches(expected, path))
    rows = list(islice(chain.from_iterable(parts), DATA_ROWS))
    if rows[0].size != expected.size:
        raise DataError(f"{path}: has samples of shape {rows[0].shape}, the bundle takes {expected.shape}")
    return np.asarray(rows, np.float32).reshape(-1, *expected.shape)


def _text(report: "Report") -> str:
    machine = report.machine
    parts = [f"{report.bundle} on {machine.processor}, {machine.cores} cores", _models(report)]
    if report.timings:
        parts.append(_timings(report.timings))
    notes = [f"Warning: {text}" for text in report.warnings]
    notes += [f"{rows:,} row{'s' if rows > 1 else ''} a call: {text}" for rows, text in report.advice.items()]
    return "\n\n".join([*parts, "\n".join(notes)]).rstrip()


def _models(report: "Report") -> str:
    rows = [
        ["scorer", "kB", "error moves", "p99", "rank corr.", "cold start ms", "memory MB", "anonymous MB", ""]
    ]
    for model in report.models:
        fidelity, cold = model.fidelity, model.cold
        rows.append(
            [
                model.artifact,
                f"{model.bytes / 1000:.1f}",
                f"{fidelity.error_median:.3%}",
                f"{fidelity.error_p99:.3%}",
                f"{fidelity.rank_correlation:.5f}",
                f"{1000 * cold.seconds:.0f}" if cold else "-",
                f"{cold.resident / 1e6:.0f}" if cold and cold.resident else "-",
                f"{cold.anonymous / 1e6:.0f}" if cold and cold.anonymous else "-",
                model.reason or "",
            ]
        )
    return _stripped(rows)


def _timings(timings: list["Timing"]) -> str:
    rows = [
        ["candidate", "rows", "threads", "p50 µs", "p90 µs", "p99 µs", "rows/s", "times as fast as float32"]
    ]
    for timing in timings:
        faster = timing.faster
        rows.append(
            [
                timing.candidate,
                f"{timing.rows:,}",
                str(timing.threads or "-"),
                f"{timing.p50:,.1f}",
                f"{timing.p90:,.1f}",
                f"{timing.p99:,.1f}",
                f"{timing.rows_per_second:,.0f}",
                _interval(faster) if faster else "-",
            ]
        )
    return _stripped(rows)


def _interval(faster: "Interval") -> str:
    if faster.low == faster.high == 1:
        return "1"  # what the others are compared with
    return f"{faster.estimate:.3g} ({faster.low:.3g} to {faster.high:.3g})"


def _stripped(rows: list[list[str]]) -> str:
    return "\n".join(line.rstrip() for line in format_table(rows).splitlines())
