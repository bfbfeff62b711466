"""One HTML page, complete in itself, that shows whether a run learned anything."""

import csv
import json
from collections.abc import Callable
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from edgeae_export.errors import RunError
from edgeae_export.source import RUN_NAME, Run
from edgeae_runtime import Bundle
from edgeae_runtime.files import new_file

from ..evaluation.evaluate import STEPS as EVALUATION_STEPS
from ..evaluation.files import evaluate_files
from .contents import SECTIONS
from .layout import Page

HISTORY_NAME = "history.csv"

STEPS = EVALUATION_STEPS + 1
"""How often `write_report` reports its progress."""

_PAGE = files(__package__) / "page"


def write_report(
    run: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    bundle: str | Path | None = None,
    progress: Callable[[str], None] = lambda step: None,
    **settings: Any,
) -> int:
    """Evaluate a run and write its page.

    Args:
        run: folder of the run.
        out: the page.
        data: file of samples; None takes the run's held-out rows.
        bundle: what was exported from the run, for the fidelity table.
        progress: called with the name of each of the `STEPS` before it is done.
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
    outcome = evaluate_files(run, data, progress=progress, **settings)
    progress("page")
    where = "the run's held-out rows" if data is None else data.name
    text = render(Page(run.name, where, outcome, history, config, manifest))
    with new_file(out) as file:
        file.write_text(text, encoding="utf-8")
    return len(text.encode())


def render(page: Page) -> str:
    """Return the page as HTML, with all its sections."""
    body = "\n".join(section(page) for section in SECTIONS.values())
    figures = {"charts": page.charts, "latent": page.latent}
    # a "</" inside a label must not end the script element
    text = json.dumps(figures, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    fill = {
        "title": f"{escape(page.name)}: what the autoencoder learned",
        "css": (_PAGE / "page.css").read_text("utf-8"),
        "javascript": "\n".join((_PAGE / part).read_text("utf-8") for part in ("charts.js", "latent.js")),
        "body": body,
        "figures": text,
    }
    pieces = (_PAGE / "page.html").read_text("utf-8").split("{{")
    return pieces[0] + "".join(fill[key] + rest for key, rest in (p.split("}}", 1) for p in pieces[1:]))


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
