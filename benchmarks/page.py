"""Make the page, its pictures and the numbers in the documentation from results.json.

``python benchmarks/page.py [FOLDER] [--docs]``: FOLDER holds results.json and gets README.md and the
pictures; ``--docs`` also renews what stands between ``<!-- bench:NAME -->`` and ``<!-- /bench -->`` in the
project's own README.md and docs/. So no number there is older than the results.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import models
import peers
import sections
from targets import percent, targets

HERE = Path(__file__).parent
ROOT = HERE.parent
BLOCK = re.compile(r"(<!-- bench:(?P<name>[\w.-]+) -->)(?P<text>.*?)(<!-- /bench -->)", re.DOTALL)
TITLES = {
    "ours_auto": "**edgeae, auto**",
    "ours_onnxruntime": "**edgeae, onnxruntime alone**",
    "ours_onnxruntime_float32": "edgeae, onnxruntime float32",
    "ours_onnxruntime_int8": "edgeae, onnxruntime int8",
    "ours_litert": "edgeae, LiteRT int8",
    "ours_litert_float32": "edgeae, LiteRT float32",
    "ours_litert_int8": "edgeae, LiteRT int8",
    "ours_openvino": "edgeae, OpenVINO int8",
    "ours_openvino_float32": "edgeae, OpenVINO float32",
    "ours_openvino_int8": "edgeae, OpenVINO int8",
    **peers.PEERS,
}
"""Of the candidates."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=HERE)
    parser.add_argument("--docs", action="store_true")
    options = parser.parse_args()
    content = (options.folder / "results.json").read_bytes()
    results = json.loads(content)
    (options.folder / "README.md").write_text(page(results, instructions()))
    import plots

    plots.draw(results, options.folder, hashlib.sha256(content).hexdigest(), TITLES)
    if options.docs:
        for path in documents():
            path.write_text(filled(path.read_text(), results, str(path)))


def instructions() -> dict[str, Any] | None:
    """Return the counts that instructions.py keeps, where it has made them."""
    kept: dict[str, Any] | None = _kept("instructions")
    return kept


def _kept(name: str) -> Any:
    """Return what another script has kept as NAME.json, or None."""
    path = HERE / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def documents() -> list[Path]:
    """Return the documents that may quote results."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str, results: dict[str, Any], where: str) -> str:
    """Return a document with its quotations renewed.

    Raises:
        ValueError: it quotes what there is not.
    """
    known = quotations(results)

    def renew(match: re.Match[str]) -> str:
        if match["name"] not in known:
            raise ValueError(f"{where}: no bench:{match['name']}; there are {', '.join(known)}")
        return f"{match[1]}{known[match['name']]}{match[4]}"

    return BLOCK.sub(renew, text)


def quotations(results: dict[str, Any]) -> dict[str, str]:
    """Return all that documents may quote, by name: tables, and one figure each."""
    found = {"latency": _short_table(results)}
    if bulk := _kept("bulk"):
        found["bulk"] = "\n" + sections.bulk(bulk, table) + "\n"
    if stream := _kept("stream"):
        found["stream"] = "\n".join(["", "```", *stream, "```", ""])
    for model, measured in results["latency"].items():
        for work in ("one", "embed", "many"):
            for name, times in measured[work]["seconds"].items():
                found[f"{model}.{work}.{name}"] = sections.microseconds(times["p50"])
    for name, run in results["cold"]["dense"].items():
        found[f"cold.{name}"] = f"{run['seconds']:.2f} s"
        found[f"memory.{name}"] = f"{run['resident'] / 1e6:.0f} MB"
    return found


def _short_table(results: dict[str, Any]) -> str:
    """Return the latencies of one row of the dense model, for a reader in a hurry."""
    measured = results["latency"]["dense"]
    rows = []
    for name, times in sorted(measured["one"]["seconds"].items(), key=lambda item: item[1]["p50"]):
        if name == "pca" or name in ("ours_auto", "ours_onnxruntime"):
            continue
        moved = percent(measured["fidelity"][name])
        rows.append(
            [TITLES[name], sections.microseconds(times["p50"]), sections.microseconds(times["p99"]), moved]
        )
    return "\n" + table(["", "median µs", "p99 µs", "error moves"], rows) + "\n"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column left and the others right."""
    marks = ["---", *["--:"] * (len(heading) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [heading, marks, *rows])


def page(results: dict[str, Any], counts: dict[str, Any] | None) -> str:
    """Return the page."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    aims = list(targets(results, TITLES))
    kind = machine.get("kind", "int8 instructions not recorded")
    parts = [
        "# What it costs",
        f"Made by `make bench` from `results.json` on {machine['cores']} cores of {machine['processor']} "
        f"({kind}; {machine['system']}, Python {machine['python']}; L2 {machine['L2']} a core, "
        f"L3 {machine['L3']}). "
        f"{versions}. Nothing on this page is written by hand.",
        "Each peer is what a competent user would write, in [its own file](peers): raw units in, embedding "
        "and error out. Candidates take turns in one process, so that a busy machine hits all alike. A ratio "
        "is that of the medians, with a 95 % bootstrap interval. Before anything is timed, the errors of all "
        "float32 peers are compared with ours; *error moves* is the median relative change of the error "
        "against our float32.",
        "## Targets",
        f"{sum(t.met for t in aims)} of {len(aims)} met.",
        table(["what", "target", "found (95 %)", ""], [t.cells() for t in aims]),
        "## One row",
        "One thread (TensorFlow: as many as there are cores), microseconds a call.",
        "![Latency of one row](latency.png)",
    ]
    for name, measured in results["latency"].items():
        spec = models.SPECS[name]
        parts += [f"### {name}: {spec.title}", f"On {spec.data}.", sections.one_row(measured, TITLES, table)]
        parts += [f"{TITLES[peer]} cannot run it: {why}" for peer, why in measured["left_out"].items()]
    parts += [
        "## 10,000 rows",
        "In one call, two threads, milliseconds (medians).",
        sections.across(results["latency"], "many", 1e3, TITLES, table),
        "## The embedding alone",
        "One row, one thread, microseconds (medians).",
        sections.across(results["latency"], "embed", 1e6, TITLES, table),
        "## From a cold start",
        "A fresh process: start, import, load, score one row of the dense model; medians of turns. Resident "
        "memory is taken after the score.",
        sections.cold_start(results["cold"]["dense"], TITLES, table),
        "## Installed",
        "All files of the package and of everything that it depends on, without compiled Python.",
        table(
            ["", "MB", "packages"],
            [
                [n, f"{r['bytes'] / 1e6:,.0f}", str(r["distributions"])]
                for n, r in results["installed"].items()
            ],
        ),
        "## Export and files",
        "Both formats, float32 and int8, three roles each, judged on held-out rows.",
        sections.files(results["model"], table),
        "## Training",
        "Seconds an epoch, against Keras's `fit` on the same network, rows and batches, in memory.",
        sections.training(results["model"], table),
    ]
    if "stream" in results:
        parts += [
            "## A live series",
            "Readings pushed one at a time, every window scored, one thread.",
            sections.streams(results["stream"], table),
        ]
    if counts is not None:
        parts += ["## On a Pi's processor", *sections.instructions(counts, table)]
    parts += ["## How it grows", *sections.growth(results["growth"], machine, table)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
