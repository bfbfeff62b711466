"""The whole way in one command, on data that ships with scikit-learn."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edgeae_export.builder import Options
from edgeae_export.fidelity import Candidate, fidelity_table
from edgeae_export.pipeline import export_source
from edgeae_export.quiet import quiet
from edgeae_export.source import Source
from edgeae_runtime import Autoencoder, Bundle, Floats, load
from edgeae_runtime.cli import format_table
from edgeae_runtime.engines import engines_of
from edgeae_runtime.files import new_folder
from edgeae_runtime.machine import Seconds, interleave, percentiles

from .bench_keras import tensorflow_calls
from .config import TrainConfig
from .data.load import load_data
from .plots import latent_space, reconstructions
from .training.run import LOSS_PLOT_NAME
from .training.train import train

EpochBar: TypeAlias = Callable[[int], AbstractContextManager[Callable[[int, dict[str, float]], None]]]

BUNDLE_NAME = "digits.edgeae"
IMAGES_SHOWN = 10
SECONDS = 10.0
"""Seconds of timing, in which `model.predict` alone takes most of each round."""


def run_demo(out: Path, *, force: bool, epoch_bar: EpochBar, say: Callable[[str], None]) -> None:
    """Train on the digits, export, run the bundle, time it beside TensorFlow, and draw pictures.

    Raises:
        OutputError: ``out`` exists and ``force`` is false, or cannot be written.
        FidelityError: an artifact is not faithful.
    """
    data = load_data("digits")
    config = TrainConfig(epochs=60, batch_size=32, validation_split=0.2)
    with new_folder(out, force=force, mark=BUNDLE_NAME) as folder:
        with epoch_bar(config.epochs) as progress:
            trained = train(data, config, progress=progress)
        trained.save(folder / "digits.run")
        (folder / "digits.run" / LOSS_PLOT_NAME).rename(folder / LOSS_PLOT_NAME)
        judged: list[Candidate] = []
        export_source(trained.source, folder / BUNDLE_NAME, Options(), report=judged.extend)
        rows = trained.held_out
        latencies = _latencies(folder / BUNDLE_NAME, trained.source, rows[0])
        autoencoder = load(folder / BUNDLE_NAME)
        _draw(folder, autoencoder, rows)
    say(format_table(_table(judged, latencies)))
    say(f"\n{out}: digits.run, digits.edgeae, {LOSS_PLOT_NAME}, reconstructions.png, latent.png")


def _draw(folder: Path, autoencoder: Autoencoder, rows: Any) -> None:
    """Draw what the bundle, not the Keras model, makes of held-out digits."""
    few = rows[:IMAGES_SHOWN]
    figure = reconstructions(few, autoencoder.reconstruct(few), autoencoder.score(few))
    figure.savefig(folder / "reconstructions.png")
    from sklearn.datasets import load_digits

    digits = load_digits()
    embeddings = autoencoder.embed(np.float32(digits.images))
    latent_space(embeddings, digits.target).savefig(folder / "latent.png")


def _latencies(bundle: Path, source: Source, row: Floats) -> dict[str, Seconds]:
    """Time calls on one row, by artifact and for TensorFlow, all interleaved round by round."""
    calls: dict[str, Callable[[], object]] = {}
    for artifact in Bundle(bundle).manifest.artifacts:
        if artifact.role == "scorer":
            reference, *_ = engines_of(artifact.format)
            ae = load(bundle, engine=reference.name, precision=artifact.precision)
            verbs = {
                "encoder": (ae.embed, row),
                "decoder": (ae.decode, ae.embed(row)),
                "scorer": (ae.detect, row),
            }
            for role, (verb, values) in verbs.items():
                calls[artifact.path.replace("scorer", role)] = partial(verb, values)
    calls |= tensorflow_calls(source)(row)
    with quiet():
        return interleave(calls, seconds=SECONDS)


def _table(judged: list[Candidate], latencies: dict[str, Seconds]) -> list[list[str]]:
    """Return the artifacts' table with two columns of latencies, and TensorFlow below."""
    heading, *rows = fidelity_table(judged)
    wanted = [
        heading.index(name) for name in ("artifact", "bytes", "of float32", "error moves", "rank corr.")
    ]
    table = [[heading[i] for i in wanted] + ["p50 µs", "p99 µs"]]
    table += [[row[i] for i in wanted] + _percentiles(latencies[row[0]]) for row in rows]
    known = {row[0] for row in rows}
    table += [
        [name, "", "", "", "", *_percentiles(latencies[name])] for name in latencies if name not in known
    ]
    return table


def _percentiles(found: Seconds) -> list[str]:
    p50, _, p99 = percentiles(found)
    return [f"{p50:,.1f}", f"{p99:,.1f}"]
