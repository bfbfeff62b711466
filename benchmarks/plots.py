"""The page's pictures, all from results.json, whose hash each carries."""

import re
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

RUNS = ("onnxruntime float32", "onnxruntime int8", "litert float32", "litert int8")
AXES = {
    "width": "values in a sample (network N-128-32-128-N)",
    "latent": "values in the code (network 784-1024-N-1024-784)",
    "depth": "hidden layers of 128 each way (784 … 32 … 784)",
}


def draw(results: dict[str, Any], folder: Path, digest: str, titles: dict[str, str]) -> None:
    """Write the pictures, each with ``digest`` as its description."""
    pictures = {"latency": _latency(results, titles), "growth": _growth(results), "batch": _batch(results)}
    for name, figure in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=80, metadata={"Description": digest, "Software": None})


def _latency(results: dict[str, Any], titles: dict[str, str]) -> Figure:
    models = list(results["latency"])
    figure = Figure(figsize=(11, 2.4 * len(models)), layout="constrained")
    for axes, model in zip(
        figure.subplots(len(models), 1, sharex=True, squeeze=False)[:, 0], models, strict=True
    ):
        times = results["latency"][model]["one"]["seconds"]
        names = sorted(times, key=lambda name: -times[name]["p50"])
        colours = ["tab:blue" if name.startswith("ours") else "tab:gray" for name in names]
        axes.barh(
            [re.sub("[`*]", "", titles[n]) for n in names],
            [1e6 * times[n]["p50"] for n in names],
            color=colours,
        )
        axes.set(xscale="log", title=f"{model}: one row, raw units in, embedding and error out")
        axes.tick_params(axis="y", labelsize=7)
        axes.grid(axis="x", alpha=0.4)
    axes.set_xlabel("µs, median (logarithmic)")
    return figure


def _growth(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(11, 9), layout="constrained")
    grid = figure.subplots(len(AXES), 2, squeeze=False)
    for row, (series, label) in zip(grid, AXES.items(), strict=True):
        points = results["growth"][series]
        for key, unit, axes in (("p50", 1e6, row[0]), ("resident", 1e-6, row[1])):
            for run in RUNS:
                held = [p for p in points if run in p["runs"]]
                axes.plot(
                    [p["x"] for p in held], [unit * p["runs"][run][key] for p in held], "o-", label=run, ms=3
                )
            axes.set(
                xscale="log", yscale="log", xlabel=label, ylabel="µs a row" if key == "p50" else "MB resident"
            )
            axes.grid(alpha=0.4)
    grid[0, 0].legend(fontsize=7)
    return figure


def _batch(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(11, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    points = results["growth"]["rows"]
    rows = [p["x"] for p in points]
    for threads, style in (("1", "o-"), ("2", "s--")):
        for i, run in enumerate(RUNS):
            runs = [p["runs"][threads][run] for p in points]
            label = f"{run}, {threads} thread{'s' if threads == '2' else ''}"
            micros = [1e6 * r["p50"] / n for r, n in zip(runs, rows, strict=True)]
            left.plot(rows, micros, style, color=f"C{i}", label=label, ms=3)
            right.plot(rows, [r["resident"] / 1e6 for r in runs], style, color=f"C{i}", ms=3)
    left.set(xscale="log", yscale="log", xlabel="rows in a call (dense)", ylabel="µs a row")
    right.set(
        xscale="log", yscale="log", xlabel="rows in a call (dense)", ylabel="MB resident, rows included"
    )
    left.legend(fontsize=6)
    left.grid(alpha=0.4)
    right.grid(alpha=0.4)
    return figure
