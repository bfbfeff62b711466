"""The tables of the page, each from its part of results.json."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from targets import percent, share

TableFormatter: TypeAlias = Callable[[Sequence[str], Sequence[Sequence[str]]], str]
FLAT_SLOPE = 0.25
"""Below this exponent a cost hardly grows."""


def microseconds(seconds: float) -> str:
    """Write a time in µs with three digits."""
    return digits(1e6 * seconds)


def digits(value: float) -> str:
    """Write a number with three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def one_row(measured: dict[str, Any], titles: dict[str, str], table: TableFormatter) -> str:
    """Return the table of one model's single rows, the fastest first."""
    times, ratios = measured["one"]["seconds"], measured["one"]["ratios"]["ours_auto"]
    rows = []
    for name in sorted(times, key=lambda name: times[name]["p50"]):
        title = titles[name]
        if name in ("ours_auto", "ours_onnxruntime"):
            title += f" ({' '.join(measured['resolved'][name])})"
        ratio = ratios.get(name)
        found = f"{share(ratio[0])} ({share(ratio[1])} to {share(ratio[2])})" if ratio else ""
        quantiles = [microseconds(times[name][q]) for q in ("p50", "p90", "p99")]
        rows.append([title, *quantiles, found, percent(measured["fidelity"][name])])
    return table(["", "p50", "p90", "p99", "auto takes of it", "error moves"], rows)


def across(
    latency: dict[str, Any], work: str, unit: float, titles: dict[str, str], table: TableFormatter
) -> str:
    """Return the medians of all candidates for all models."""
    rows = []
    for name, title in titles.items():
        cells = [measured[work]["seconds"].get(name) for measured in latency.values()]
        if any(cells):
            rows.append([title, *(digits(unit * c["p50"]) if c else "-" for c in cells)])
    return table(["", *latency], rows)


def cold_start(runs: dict[str, Any], titles: dict[str, str], table: TableFormatter) -> str:
    """Return seconds and memory of fresh processes."""
    rows = [
        [titles[n], f"{r['seconds']:.3f}", f"{r['resident'] / 1e6:,.0f}", f"{r['peak'] / 1e6:,.0f}"]
        for n, r in sorted(runs.items(), key=lambda item: item[1]["seconds"])
    ]
    return table(["", "s to the first score", "MB resident", "MB at most"], rows)


def bulk(kept: dict[str, Any], table: TableFormatter) -> str:
    """Return what bulk.py found: rows a second and anonymous memory by format and threads."""
    rows: dict[tuple[str, str], list[str]] = {}
    for run in kept["runs"]:
        speed = kept["rows"] / run["seconds"] / 1e6
        cells = rows.setdefault((run["from"], run["to"]), [run["from"], f"`.{run['to']}`"])
        cells += [f"{speed:.2f} million", f"{run['kilobytes'] / 1000:.0f} MB"]
    heading = [f"{n} thread{'s' * (n > 1)}: {what}" for n in (1, 2) for what in ("rows/s", "anonymous")]
    return table(["from", "to", *heading], list(rows.values()))


def files(made: dict[str, Any], table: TableFormatter) -> str:
    """Return what the exports took and made: the scorers."""
    rows = []
    for name, model in made.items():
        for kind in ("onnx", "tflite"):
            int8, float32 = (model["artifacts"][f"scorer.{p}.{kind}"] for p in ("int8", "float32"))
            rows.append(
                [
                    f"{name}, {kind}",
                    f"{model['parameters']:,}",
                    f"{model['export_s']:.0f}",
                    f"{float32['bytes']:,}",
                    f"{int8['bytes']:,}",
                    f"{int8['bytes'] / float32['bytes']:.3f}",
                    int8["recipe"],
                    percent(int8["error_median"]),
                    f"{int8['rank_correlation']:.5f}",
                ]
            )
    heading = ["scorer", "parameters", "export, s (all)", "float32 bytes", "int8 bytes"]
    return table([*heading, "of float32", "recipe", "error moves", "rank corr."], rows)


def training(made: dict[str, Any], table: TableFormatter) -> str:
    """Return seconds an epoch."""
    rows = []
    for name, model in made.items():
        if t := model["training"]:
            ratio = f"{t['edgeae_s'] / t['keras_s']:.2f}"
            rows.append([name, f"{t['train_rows']:,}", f"{t['edgeae_s']:.2f}", f"{t['keras_s']:.2f}", ratio])
    return table(["", "rows", "edgeae", "Keras", "ratio"], rows)


def streams(found: dict[str, Any], table: TableFormatter) -> str:
    """Return readings and windows a second."""
    rows = [
        [
            name,
            " ".join(s["pair"]),
            str(s["stride"]),
            f"{s['readings_per_s']:,.0f}",
            f"{s['windows_per_s']:,.0f}",
        ]
        for name, s in found.items()
    ]
    return table(["", "engine", "a window every", "readings/s", "windows/s"], rows)


def growth(found: dict[str, Any], machine: dict[str, Any], table: TableFormatter) -> list[str]:
    """Return the part on growth: pictures, and where the slope bends."""
    width = found["width"]
    runs = list(width[0]["runs"])
    heading = ["values", "float32 weights, MB", *(f"{run}, µs" for run in runs), "int8 moves the error"]
    rows = [
        [
            f"{p['x']:,}",
            f"{4e-6 * p['parameters']:.2f}",
            *(microseconds(p["runs"][run]["p50"]) if run in p["runs"] else "-" for run in runs),
            percent(p["error_median"].get("scorer.int8.onnx", 0)),
        ]
        for p in width
    ]
    parts = [
        "Latency and memory of ours, one fresh process a point. The networks are principal components "
        "written as ReLU layers (see [growth.py](growth.py)), so that any width is made without training.",
        "![Growth](growth.png)",
        table(heading, rows),
        "Fitted exponents (time ~ width^exponent) and the rate at which weights pass through the processor:",
        table(
            ["", "narrow half", "wide half", "fastest GB/s of weights", "at", "widest GB/s"],
            _bends(width, runs),
        ),
        f"Where the exponent is below {FLAT_SLOPE}, the call is paid for and not the arithmetic. At an "
        "exponent of 1 every weight is read once a row, and the rate is what caches and memory give "
        f"(L2 {machine['L2']} a core, L3 {machine['L3']}). {_beyond(width, runs)}",
        "Rows in a call, on the dense model:",
        "![Batch](batch.png)",
        _batch(found["rows"], table),
    ]
    return parts


def _rates(width: list[dict[str, Any]], run: str) -> tuple[Any, Any, Any, Any]:
    """Return widths, seconds a row, bytes of weights, and bytes a second of one engine and precision."""
    held = [p for p in width if run in p["runs"]]
    seconds = np.array([p["runs"][run]["p50"] for p in held])
    weights = np.array([p["parameters"] for p in held]) * (4 if "float32" in run else 1)
    return np.array([p["x"] for p in held], float), seconds, weights, weights / seconds


def _bends(width: list[dict[str, Any]], runs: list[str]) -> list[list[str]]:
    rows = []
    for run in runs:
        x, seconds, _, rates = _rates(width, run)
        middle = (len(x) + 1) // 2
        halves = slice(middle), slice(middle - 1, None)
        slopes = [np.polyfit(np.log(x[half]), np.log(seconds[half]), 1)[0] for half in halves]
        best = int(np.argmax(rates))
        row = [*(f"{s:.2f}" for s in slopes), f"{rates[best] / 1e9:.1f}", f"{x[best]:,.0f}"]
        rows.append([run, *row, f"{rates[-1] / 1e9:.1f}"])
    return rows


def _beyond(width: list[dict[str, Any]], runs: list[str]) -> str:
    """Return in a sentence each what the widest network's rate is of the fastest."""
    told = []
    for run in runs:
        x, _, weights, rates = _rates(width, run)
        told.append(f"{run} with {weights[-1] / 1e6:.0f} MB of weights {rates[-1] / rates.max():.0%}")
    return f"At {x[-1]:,.0f} values the rate is of each one's fastest: {', '.join(told)}."


def _batch(points: list[dict[str, Any]], table: TableFormatter) -> str:
    names = [(threads, run) for threads in ("1", "2") for run in points[0]["runs"][threads]]
    rows = [
        [f"{p['x']:,}", *(f"{1e6 * p['runs'][t][run]['p50'] / p['x']:.2f}" for t, run in names)]
        for p in points
    ]
    return table(
        ["rows; µs a row", *(f"{run}, {t} thread{'s' if t == '2' else ''}" for t, run in names)], rows
    )


def instructions(counts: dict[str, Any], table: TableFormatter) -> list[str]:
    """Return exact counts of instructions a score, one table a model."""
    parts = [
        "Instructions a score, counted under qemu by [instructions.py](instructions.py); they do not "
        "depend on the machine that counts. In [instructions.json](instructions.json)."
    ]
    for model, processors in counts.items():
        names = list(next(iter(processors.values())))
        rows = [[name, *(f"{counted[name]:,}" for counted in processors.values())] for name in names]
        parts.append(table([model, *processors], rows))
    return parts
