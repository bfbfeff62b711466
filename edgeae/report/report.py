"""One HTML page, complete in itself, that shows whether a run learned anything."""

import csv
import json
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeae_export.errors import RunError
from edgeae_export.source import RUN_NAME, Run
from edgeae_runtime import Bundle, Manifest
from edgeae_runtime.files import new_file

from ..evaluation.evaluate import Outcome
from ..evaluation.files import evaluate_files
from ..evaluation.robustness import Curve
from ..evaluation.tables import tables
from .charts import Chart, latent_points
from .sections import (
    curves,
    distribution,
    fidelity,
    latent,
    noise,
    reconstructions,
    settings_of,
    table_section,
)

HISTORY_NAME = "history.csv"

_PAGE = files(__package__) / "page"


def write_report(
    run: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    bundle: str | Path | None = None,
    **settings: Any,
) -> int:
    """Evaluate a run and write its page.

    Args:
        run: folder of the run.
        out: the page.
        data: file of samples; None takes the run's held-out rows.
        bundle: what was exported from the run, for the fidelity table.
        settings: ``labels`` (a path), ``label_column``, ``normal``, ``fit_data`` (a path), ``threshold``,
            ``noise`` and ``seed``, as the options of ``edgeae report`` and ``edgeae evaluate``.

    Returns:
        The page's size in bytes.

    Raises:
        RunError: ``run`` is no run folder.
        EdgeaeError: as for `evaluate`; a file or the bundle cannot be read; the page cannot be written.
    """
    run, out, data = Path(run), Path(out), None if data is None else Path(data)
    if not (run / RUN_NAME).is_file():
        raise RunError(f"{run}: not a run folder ({RUN_NAME} is missing); a report is made of a run")
    manifest = None if bundle is None else Bundle(bundle).manifest
    history = _read_history(run / HISTORY_NAME)
    config = msgspec.json.decode((run / RUN_NAME).read_bytes(), type=Run).config
    outcome = evaluate_files(run, data, **settings)
    where = "the run's held-out rows" if data is None else data.name
    page = render(run.name, where, outcome, history, config, manifest)
    with new_file(out) as file:
        file.write_text(page, encoding="utf-8")
    return len(page.encode())


def render(
    name: str,
    where: str,
    outcome: Outcome,
    history: dict[str, list[float]],
    config: dict[str, Any],
    manifest: Manifest | None,
) -> str:
    """Return the page.

    Args:
        name: of the run.
        where: what was evaluated on, in words.
        outcome: of the evaluation.
        history: ``loss``, ``val_loss`` and more, per epoch.
        config: the run's settings.
        manifest: of the bundle.
    """
    charts: dict[str, Chart] = {}
    parts = [
        _summary(name, where, outcome, history),
        curves(charts, history, str(config.get("loss", ""))),
        latent(),
        reconstructions(charts, outcome),
        distribution(charts, outcome),
        noise(charts, outcome),
        *(table_section(table) for table in tables(outcome.evaluation) if "obustness" not in table.title),
        "" if manifest is None else table_section(fidelity(manifest)),
        settings_of(config),
    ]
    figures = {"charts": charts, "latent": latent_points(outcome, "keras")}
    # a "</" inside a label must not end the script element
    text = json.dumps(figures, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    page = (_PAGE / "page.html").read_text("utf-8")
    fill = {
        "title": f"{escape(name)}: what the autoencoder learned",
        "css": (_PAGE / "page.css").read_text("utf-8"),
        "javascript": "\n".join((_PAGE / part).read_text("utf-8") for part in ("charts.js", "latent.js")),
        "body": "\n".join(parts),
        "figures": text,
    }
    pieces = page.split("{{")
    return pieces[0] + "".join(fill[key] + rest for key, rest in (p.split("}}", 1) for p in pieces[1:]))


def _summary(name: str, where: str, outcome: Outcome, history: dict[str, list[float]]) -> str:
    evaluation, figures = outcome.evaluation, outcome.evaluation.error[0]
    shape = " x ".join(map(str, outcome.opened.input.shape))
    best = int(np.argmin(history["val_loss"])) + 1
    cards = [
        ("Error (MSE)", f"{figures.mse:.4g}", "scaled units, all rows"),
        ("Code", f"{outcome.opened.latent_size}", f"of {evaluation.compression.input_values} values"),
        ("Best epoch", f"{best}", f"of {len(history['loss'])}"),
    ]
    if figures.psnr is not None:
        cards.append(("PSNR", f"{figures.psnr:.1f}", "dB"))
    if evaluation.downstream is not None:
        cards.append(
            (
                "5 neighbours",
                f"{evaluation.downstream.found[0].nearest_neighbours:.1%}",
                "accuracy on the code",
            )
        )
    if evaluation.detection:
        cards.append(("ROC AUC", f"{evaluation.detection[0].roc_auc:.3f}", "of the error"))
    items = "".join(f"<div><dt>{a}</dt><dd>{b} <small>{c}</small></dd></div>" for a, b, c in cards)
    verdict = "".join(f"<li>{escape(line)}</li>" for line in verdicts(outcome, history))
    return (
        f"<header><h1>{escape(name)}</h1><p class='lead'>An autoencoder of {shape} values, shown on "
        f"{evaluation.rows:,} rows: {escape(where)}.</p></header><dl class='cards'>{items}</dl>"
        f"<h2>Did it learn?</h2><ul class='verdict'>{verdict}</ul>"
    )


def verdicts(outcome: Outcome, history: dict[str, list[float]]) -> list[str]:
    """Return what the figures say, in a sentence each."""
    lines = _of_noise({c.name: c for c in outcome.evaluation.robustness if c.noise == "gaussian"})
    gap = min(history["val_loss"]) / history["loss"][int(np.argmin(history["val_loss"]))]
    if gap > 1.5:
        lines.append(
            f"Validation loss is {gap:.1f} times the training loss: it has begun to learn rows by heart."
        )
    elif int(np.argmin(history["val_loss"])) == len(history["loss"]) - 1:
        lines.append("The last epoch was the best one: more epochs may still help.")
    return lines


def _of_noise(curves: dict[str, Curve]) -> list[str]:
    """Return what the curves of Gaussian noise say; nothing where that was not measured."""
    if not curves:
        return []
    lines = []
    pca = next(name for name in curves if name.startswith("PCA"))
    mine, linear = (curves[name].mse[0] for name in ("keras", pca))
    if mine < linear:
        lines.append(
            f"Its error is {1 - mine / linear:.0%} below that of {pca}, the best linear code of that size."
        )
    else:
        lines.append(
            f"Its error is not below that of {pca}: a linear code would do as well. Train longer or wider."
        )
    noisy, copy = (curves[name] for name in ("keras", "identity copy"))
    level, at, alike = noisy.levels[-1], noisy.mse[-1], copy.mse[-1]
    if at < 0.7 * alike:
        lines.append(
            f"It removes noise: at {level:g} its output is {1 - at / alike:.0%} nearer to the clean input "
            "than its input is."
        )
    else:
        lines.append(
            f"It passes noise on: at {level:g} its output is hardly nearer to the clean input than a copy."
        )
    return lines


def _read_history(path: Path) -> dict[str, list[float]]:
    """Read the losses of each epoch.

    Raises:
        RunError: missing, or not what the trainer writes.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        history = {name: [float(row[name]) for row in rows] for name in rows[0]}
        if not history["loss"] or len(history["val_loss"]) != len(history["loss"]):
            raise ValueError("no losses")
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise RunError(f"{path}: cannot be read ({error}); train the run again") from error
    return history
