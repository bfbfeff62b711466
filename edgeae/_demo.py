"""The whole way in one command, on data that ships with scikit-learn."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from edgeae_export._artifacts import Judged, Options
from edgeae_export._cli import fidelity_table
from edgeae_export._export import export_source
from edgeae_export._graphs import role_function
from edgeae_export._quiet import quiet
from edgeae_export._source import Source
from edgeae_runtime import Autoencoder, load
from edgeae_runtime._engines import ENGINE_FORMATS
from edgeae_runtime._files import new_folder
from edgeae_runtime._manifest import Floats
from edgeae_runtime._results import format_table

from ._data import load_data
from ._plots import latent_space, reconstructions
from ._train import LOSS_PLOT_NAME, TrainConfig, train

EpochBar: TypeAlias = Callable[[int], AbstractContextManager[Callable[[int, dict[str, float]], None]]]

BUNDLE_NAME = "digits.edgeae"
IMAGES_SHOWN = 10
ROUNDS = 200
CALLS_A_ROUND = 10
"""Of the runtime; TensorFlow is called once a round, since one call takes as long as hundreds of these."""


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
        judged: list[Judged] = []
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


def _latencies(bundle: Path, source: Source, row: Floats) -> dict[str, list[float]]:
    """Return seconds per call on one row, by artifact and for TensorFlow, all interleaved round by round."""
    calls: dict[str, Callable[[], Any]] = {}
    for engine, file_format in ENGINE_FORMATS.items():
        for precision in ("float32", "int8"):
            ae = load(bundle, engine=engine, precision=precision)  # type: ignore[arg-type]  # known names
            code = ae.embed(row)
            calls[f"encoder.{precision}.{file_format}"] = partial(ae.embed, row)
            calls[f"decoder.{precision}.{file_format}"] = partial(ae.decode, code)
            calls[f"scorer.{precision}.{file_format}"] = partial(ae.detect, row)
    model, function = _tensorflow_peers(source)
    batch = np.float32(row).reshape(1, *source.encoder.input_shape[1:])
    tensor = tf.constant(batch)
    peers: dict[str, Callable[[], Any]] = {
        "Keras model.predict": lambda: model.predict(batch, verbose=0),
        "TensorFlow tf.function": lambda: function(tensor),
    }
    seconds: dict[str, list[float]] = {name: [] for name in (*calls, *peers)}
    with quiet():
        for call in (*calls.values(), *peers.values()):
            call()
        for _ in range(ROUNDS):
            for name, call in calls.items():
                seconds[name] += [_time(call) for _ in range(CALLS_A_ROUND)]
            for name, call in peers.items():
                seconds[name].append(_time(call))
    return seconds


def _tensorflow_peers(source: Source) -> tuple[Any, Any]:
    """Return a Keras model and a concrete function that do what a scorer does: raw in, both results out."""
    import keras

    function: Any = role_function(source, "scorer", clip=False)

    class Scorer(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
        def call(self, inputs: Any) -> Any:
            return function(inputs)

    inputs = keras.Input(source.encoder.input_shape[1:])
    return keras.Model(inputs, Scorer()(inputs)), function.get_concrete_function()


def _time(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _table(judged: list[Judged], latencies: dict[str, list[float]]) -> list[list[str]]:
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


def _percentiles(seconds: list[float]) -> list[str]:
    return [f"{1e6 * float(value):,.1f}" for value in np.quantile(seconds, (0.5, 0.99))]
