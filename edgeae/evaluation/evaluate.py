"""Evaluation: did it learn anything, what is it good for, and do the exported files say the same?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from edgeae_export.source import Source
from edgeae_runtime import DataError
from edgeae_runtime.bundle import DEFAULT_RULE, Rule
from edgeae_runtime.named import by_name

from ..config import NOISES, NoiseKind
from .baselines import pca_subject
from .context import LEVELS, Context, are_images
from .figures import MEASURES, Evaluation
from .ground_truth import Samples, check_classes, known_truth
from .split import two_parts
from .subjects import Opened, from_source, measure, open_subjects

STEPS = 1 + len(MEASURES)
"""How often `evaluate_opened` reports its progress."""


@dataclass(frozen=True)
class Outcome:
    """An evaluation, and what went into it."""

    context: Context
    evaluation: Evaluation


def evaluate(
    model: str | Path | Source,
    rows: Any,
    *,
    labels: Any = None,
    normal: str | None = None,
    fit_rows: Any = None,
    threshold: str = str(DEFAULT_RULE),
    noise: Sequence[NoiseKind] = NOISES,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a run's Keras model, or every scorer of a bundle side by side.

    Args:
        model: a run folder, a bundle, or a trained autoencoder's ``source``.
        rows: (n, *shape) or (n, size), raw units, of a table the columns of the model's names; or `Samples`,
            for a series.
        labels: (n,): classes, or 0 for normal and 1 for anomalous rows.
        normal: the label of normal rows; all others are anomalies.
        fit_rows: normal rows, such as the training rows, that PCA and isolation forest are fitted on. A
            run's own held-out rows are taken without any, for a bundle half of the rows at hand.
        threshold: rule for the threshold of a run and of the baselines; an artifact has its own.
        noise: kinds of noise for robustness; none skips it.
        levels: of noise.
        seed: for splits, noise and k-means.

    Raises:
        DataError: the rows do not fit the model, or the labels not the rows; one class only.
        RunError, BundleError, EngineError: the model cannot be read or run.
        RuleError: an unknown threshold rule.
    """
    rule = Rule.parse(threshold)
    opened = from_source(model, rule) if isinstance(model, Source) else open_subjects(Path(model), rule)
    features = opened.input.features
    samples = rows if isinstance(rows, Samples) else Samples(np.asarray(by_name(rows, features)))
    if labels is not None:
        samples = replace(samples, labels=np.asarray(labels))
    fit = None if fit_rows is None else np.asarray(by_name(fit_rows, features, where="the rows to fit on"))
    fit = None if fit is None else _shaped(fit, opened, "the rows to fit on")
    return evaluate_opened(
        opened, samples, fit, normal=normal, rule=rule, noise=noise, levels=levels, seed=seed
    ).evaluation


def evaluate_opened(
    opened: Opened,
    samples: Samples,
    fit: NDArray[Any] | None,
    *,
    normal: str | None,
    rule: Rule,
    noise: Sequence[NoiseKind] = NOISES,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    posterior: Any = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Outcome:
    """Do the work of `evaluate`, once everything is read.

    Args:
        opened: the run or bundle.
        samples: rows, labels and times.
        fit: normal rows (m, *shape) for the baselines, or None.
        normal: as for `evaluate`.
        rule: for the baselines' thresholds.
        noise: as for `evaluate`.
        levels: as for `evaluate`.
        seed: as for `evaluate`.
        posterior: Keras model of a variational run: scaled samples to the code's log-variance.
        progress: called with the name of each of the `STEPS` before it is done.
    """
    # For matrices of this size threads cost more than they give: they spin while they wait for each other,
    # and on a busy machine the probe on raw images took ten times the CPU time. Keras has its own threads.
    with threadpool_limits(1):
        progress("codes and errors")
        context = _context(
            opened,
            samples,
            fit,
            normal,
            rule=rule,
            noise=noise,
            levels=levels,
            seed=seed,
            posterior=posterior,
        )
        figures = {}
        for one in MEASURES:
            progress(one.field)
            figures[one.field] = one.compute(context)
    rows, fit_rows = len(context.samples.rows), 0 if fit is None else len(fit)
    return Outcome(context, Evaluation(rows=rows, fit_rows=fit_rows, **figures))


def _context(
    opened: Opened,
    samples: Samples,
    fit: NDArray[Any] | None,
    normal: str | None,
    *,
    seed: int,
    **settings: Any,
) -> Context:
    """Return what is measured on: the rows' truth, the baseline, and what all models make of the rows."""
    samples = replace(samples, rows=_shaped(samples.rows, opened, "the data"))
    if samples.labels is not None and samples.labels.dtype.kind == "M":
        samples = replace(samples, labels=None, periods=samples.labels)
    truth = known_truth(samples, normal)
    if samples.labels is not None and truth is None:
        check_classes(samples.labels)
    first, second = two_parts(samples, truth, seed)
    pca = pca_subject(opened.scaler, samples.rows[first] if fit is None else fit, opened.latent_size)
    compared = opened.subjects if fit is None else (*opened.subjects, pca)
    return Context(
        opened=opened,
        samples=samples,
        truth=truth,
        fit=fit,
        pca=pca,
        unfitted=second,
        compared=compared,
        measured={subject.name: measure(subject, opened.scaler, samples.rows) for subject in compared},
        images=are_images(opened.input.shape, series=samples.series or opened.input.window is not None),
        seed=seed,
        **settings,
    )


def _shaped(rows: NDArray[Any], opened: Opened, what: str) -> NDArray[Any]:
    """Return rows as the model takes them."""
    shape = opened.input.shape
    if not len(rows) or int(np.prod(rows.shape[1:])) != opened.input.size:
        raise DataError(
            f"{what}: found {rows.shape}, the model takes samples of shape {shape}; (n, …) of them"
        )
    return rows.reshape(-1, *shape)
