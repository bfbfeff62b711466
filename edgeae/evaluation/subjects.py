"""What can be evaluated: a run's Keras model, and a bundle's artifacts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeae_export.model import load_run
from edgeae_export.quiet import quiet
from edgeae_export.source import RUN_NAME, Source
from edgeae_runtime import Bundle, DataError, EngineError, Floats, Input, Scaler, load
from edgeae_runtime.bundle import Rule
from edgeae_runtime.engines import engines_of
from edgeae_runtime.errors import Argument, BundleError
from edgeae_runtime.files import recover

CHUNK_ROWS = 4096
"""Rows whose reconstructions are in memory at a time."""

Reconstruct: TypeAlias = Callable[[NDArray[Any]], tuple[Floats, NDArray[Any], Floats | None]]
"""Raw rows (n, *shape) to codes (n, latent size), errors (n,) in scaled units squared, and reconstructions
(n, size) in scaled units; None where the bundle holds no decoder."""


@dataclass(frozen=True)
class Evaluated:
    """A model that is evaluated: of a run, an artifact, or a baseline. It reconstructs its input."""

    name: str
    reconstruct: Reconstruct
    threshold: float | None
    """The error above which a row is an alarm; None where there is no such rule."""


@dataclass(frozen=True)
class Measured:
    """Codes and errors of one evaluated model for n rows."""

    codes: Floats
    """(n, latent size)."""
    errors: NDArray[np.float64]
    """(n,): mean squared error of each row, in scaled units squared."""
    absolute: NDArray[np.float64] | None
    """(n,): mean absolute error of each row, in scaled units."""
    raw_squared: NDArray[np.float64] | None
    """(n,): mean squared error of each row, in raw units squared."""


@dataclass(frozen=True)
class Opened:
    """A run or a bundle, ready to be evaluated."""

    subjects: tuple[Evaluated, ...]
    input: Input
    scaler: Scaler
    latent_size: int
    source: Source | None
    """Models and rows of a run; None for a bundle, which carries no rows."""


def open_subjects(path: Path, rule: Rule) -> Opened:
    """Open a run folder, or every scorer of a bundle that an engine here can run.

    Args:
        path: the run or bundle.
        rule: for the threshold of a run, on its held-out rows; an artifact has its own.

    Raises:
        RunError, BundleError: it is neither, or damaged.
        EngineError: no engine that is installed runs any of the bundle's scorers.
    """
    recover(path)
    if (path / RUN_NAME).is_file():
        return from_source(load_run(path), rule)
    bundle = Bundle(path)
    manifest = bundle.manifest
    subjects: list[Evaluated] = []
    missing: EngineError | None = None
    for artifact in manifest.artifacts:
        engines = engines_of(artifact.format)
        if artifact.role != "scorer" or not engines:
            continue
        kind = artifact.precision, artifact.format
        autoencoder = load(path, engine=engines[0].name, precision=artifact.precision)
        whole = bool(manifest.find("encoder", *kind) and manifest.find("decoder", *kind))
        with quiet():  # LiteRT logs on its first run what it chose
            try:
                autoencoder.score(np.zeros((1, *manifest.input.shape), np.float32))
            except EngineError as error:
                missing = error
                continue
        subjects.append(
            Evaluated(
                artifact.path.removeprefix("scorer."),
                _of_artifact(autoencoder, manifest.scaler, whole),
                artifact.threshold.value,
            )
        )
    if not subjects:
        raise missing or BundleError(
            f"{path}: holds no scorer; export it again without ", Argument("keep_passing", True)
        )
    return Opened(tuple(subjects), manifest.input, manifest.scaler, manifest.latent_size, None)


def from_source(source: Source, rule: Rule) -> Opened:
    """Make a Keras autoencoder ready; its threshold is taken on the source's rows."""
    reconstruct = _of_source(source)
    errors = measure(Evaluated("keras", reconstruct, None), source.scaler, source.rows).errors
    subject = Evaluated("keras", reconstruct, rule.choose(errors).value)
    latent = int(np.prod(source.encoder.output_shape[1:]))
    return Opened((subject,), source.input, source.scaler, latent, source)


def measure(subject: Evaluated, scaler: Scaler, rows: NDArray[Any]) -> Measured:
    """Run a subject on raw rows (n, *shape), a few thousand at a time.

    Raises:
        DataError: an error is not finite.
    """
    codes: list[Floats] = []
    errors, absolute, squared = [], [], []
    for chunk in _chunks(rows):
        code, error, copy = subject.reconstruct(chunk)
        if len(lost := np.flatnonzero(~np.isfinite(error))):
            row = sum(len(c) for c in codes) + int(lost[0]) + 1
            raise DataError(
                f"input: row {row:,} is so far from the training data that its error is infinite; "
                "leave it out"
            )
        codes.append(code)
        errors.append(np.asarray(error, np.float64))
        if copy is not None:
            difference = np.abs(flat_scaled(scaler, chunk).astype(np.float64) - copy)
            absolute.append(difference.mean(axis=1))
            gain = np.broadcast_to(np.asarray(scaler.gain, np.float64), chunk.shape[1:]).reshape(-1)
            squared.append(np.square(difference / gain).mean(axis=1))
    return Measured(
        np.concatenate(codes),
        np.concatenate(errors),
        np.concatenate(absolute) if absolute else None,
        np.concatenate(squared) if squared else None,
    )


def _of_source(source: Source) -> Reconstruct:
    from edgeae_export.fidelity import Reference

    def reconstruct(rows: NDArray[Any]) -> tuple[Floats, NDArray[Any], Floats]:
        result = Reference.of(source, rows)
        return result.embedding, result.error, result.reconstruction.reshape(len(rows), -1)

    return reconstruct


def _of_artifact(autoencoder: Any, scaler: Scaler, whole: bool) -> Reconstruct:
    def reconstruct(rows: NDArray[Any]) -> tuple[Floats, NDArray[Any], Floats | None]:
        found = autoencoder.detect(rows)
        return (
            found.embedding,
            found.error,
            flat_scaled(scaler, autoencoder.reconstruct(rows)) if whole else None,
        )

    return reconstruct


def flat_scaled(scaler: Scaler, rows: NDArray[Any]) -> Floats:
    """Return rows (n, ...) in raw units as (n, size) in scaled ones."""
    return scaler.scale(rows).reshape(len(rows), -1)


def _chunks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(rows), CHUNK_ROWS):
        yield rows[start : start + CHUNK_ROWS]
