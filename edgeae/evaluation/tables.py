"""An evaluation as tables of text, for the terminal and for the report."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from edgeae_runtime.cli import format_table

from .figures import Evaluation

TEXT_WIDTH = 100


@dataclass(frozen=True)
class ReportTable:
    """A heading row, then one row a subject."""

    title: str
    rows: list[list[str]]
    note: str
    """What the figures mean."""


def as_text(evaluation: Evaluation) -> str:
    """Return all figures of an evaluation as aligned tables."""
    blocks = [
        f"{table.title}\n{format_table(table.rows)}\n{textwrap.fill(table.note, TEXT_WIDTH)}"
        for table in tables(evaluation)
    ]
    return "\n\n".join(blocks)


def tables(evaluation: Evaluation) -> Iterator[ReportTable]:
    """Yield the tables of an evaluation, in the order in which they are best read."""
    yield _error(evaluation)
    if evaluation.detection:
        yield _detection(evaluation)
        if evaluation.detection[0].episodes:
            yield _episodes(evaluation)
    if evaluation.downstream is not None:
        yield _downstream(evaluation)
    for noise in dict.fromkeys(curve.noise for curve in evaluation.robustness):
        yield _robustness(evaluation, noise)
    if evaluation.kl is not None:
        yield _kl(evaluation.kl)


def _error(evaluation: Evaluation) -> ReportTable:
    heading = ["model", "MSE", "MAE", "PSNR dB", "median", "95 %", "99 %", "largest", "threshold", "above"]
    rows = [
        [
            e.name,
            _number(e.mse),
            _number(e.mae),
            "" if e.psnr is None else f"{e.psnr:.2f}",
            *(_number(e.quantiles[q]) for q in ("0.5", "0.95", "0.99", "1.0")),
            _number(e.threshold),
            _share(e.above),
        ]
        for e in evaluation.error
    ]
    if all(e.psnr is None for e in evaluation.error):
        rows = [row[:3] + row[4:] for row in rows]
        heading.remove("PSNR dB")
    c = evaluation.compression
    note = (
        f"{evaluation.rows:,} rows; errors in scaled units. Code: {c.code_values} of {c.input_values} values "
        f"({c.values:.1f} to 1), {c.code_bytes} of {c.input_bytes} bytes ({c.bytes:.1f} to 1)."
    )
    if "PSNR dB" in heading:
        note += " PSNR: 10 log10((max - min)² / MSE), in raw units."
    return ReportTable("Reconstruction error", [heading, *rows], note)


def _detection(evaluation: Evaluation) -> ReportTable:
    heading = ["score", "ROC AUC", "avg. precision", "precision", "recall", "F1", "false alarms", "missed"]
    series = evaluation.detection[0].false_events is not None
    rows = [
        [
            d.name,
            f"{d.roc_auc:.4f}",
            f"{d.average_precision:.4f}",
            f"{d.precision:.3f}",
            f"{d.recall:.3f}",
            f"{d.f1:.3f}",
            _share(d.false_alarms),
            _share(d.missed),
            *([str(d.false_events)] if series else []),
        ]
        for d in evaluation.detection
    ]
    note = "From precision on: at each one's own threshold. False alarms: share of the normal rows above it."
    if series:
        heading.append("false events")
        note += " False events: runs of alarms that touch no labelled episode."
    return ReportTable("Anomaly detection", [heading, *rows], note)


def _episodes(evaluation: Evaluation) -> ReportTable:
    names = [d.name for d in evaluation.detection]
    rows = []
    for number, episode in enumerate(evaluation.detection[0].episodes):
        found = [d.episodes[number] for d in evaluation.detection]
        cells = [f"{f.alarms} after {_delay(f.delay)}" if f.alarms else "missed" for f in found]
        rows.append([f"{episode.start} to {episode.end}", str(episode.rows), *cells])
    return ReportTable(
        "Alarms in each labelled episode",
        [["episode", "rows", *names], *rows],
        "Alarms, and the time from the episode's start to the first of them.",
    )


def _downstream(evaluation: Evaluation) -> ReportTable:
    found = evaluation.downstream
    assert found is not None
    heading = ["representation", "values", "linear probe", "5 neighbours", "adj. Rand", "NMI"]
    rows = [
        [
            u.name,
            str(u.values),
            _share(u.linear_probe),
            _share(u.nearest_neighbours),
            f"{u.adjusted_rand:.3f}",
            f"{u.mutual_information:.3f}",
        ]
        for u in found.found
    ]
    note = (
        f"{found.classes} classes; trained on {found.train_rows:,} rows, tested on {found.test_rows:,} more. "
        f"Naming the most frequent class gives {found.majority:.2%}. Clusters by k-means, one a class."
    )
    return ReportTable("What the code is good for", [heading, *rows], note)


def _robustness(evaluation: Evaluation, noise: str) -> ReportTable:
    curves = [curve for curve in evaluation.robustness if curve.noise == noise]
    rows = [[c.name, *map(_number, c.mse)] for c in curves]
    what = "standard deviation in scaled units" if noise == "gaussian" else "share of the values that are hit"
    return ReportTable(
        f"Robustness: {noise} noise",
        [["model", *(f"{level:g}" for level in curves[0].levels)], *rows],
        f"MSE of what is made of the noisy input, against the clean one; columns: {what}. A model near the "
        "identity copy has learned to copy.",
    )


def _kl(kl: tuple[float, ...]) -> ReportTable:
    order = sorted(range(len(kl)), key=lambda i: -kl[i])
    used = sum(value > 0.01 for value in kl)
    return ReportTable(
        "KL term of each value of the code",
        [["value", "nats"], *([str(i + 1), f"{kl[i]:.4f}"] for i in order)],
        f"Sum {sum(kl):.3f} nats; {used} of {len(kl)} values carry more than 0.01; the model does not "
        "use those that carry less.",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _delay(delay: float | None) -> str:
    """Return a delay in words; without timestamps it is a whole number of rows, and looks like seconds."""
    if delay is None:
        return "-"
    for seconds, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if delay >= seconds:
            return f"{delay / seconds:.1f} {unit}"
    return f"{delay:.0f} s"
