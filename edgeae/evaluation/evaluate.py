"""Evaluation: did it learn anything, what is it good for, and do the exported files say the same?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_export.source import Source
from edgeae_runtime import DataError, Scaler
from edgeae_runtime.bundle import DEFAULT_RULE, Rule
from edgeae_runtime.named import by_name

from ..config import NOISES, NoiseKind
from .baselines import forest_scores, identity_subject, pca_subject
from .detection import Detected, Truth, detection
from .downstream import Downstream, check_classes, downstream, halves
from .figures import Evaluation, are_images, compression_of, error_figures
from .ground_truth import Samples, known_truth
from .robustness import LEVELS, robustness
from .subjects import Evaluated, Measured, Opened, from_source, measure, open_subjects

MOST_NOISY_ROWS = 2000
"""Rows on which robustness is measured, drawn with the seed."""
LEAST_FIT_ROWS = 2


@dataclass(frozen=True)
class Outcome:
    """An evaluation, and what went into it."""

    opened: Opened
    samples: Samples
    """With rows in the shape that the model takes."""
    truth: Truth | None
    measured: dict[str, Measured]
    """By subject: codes and errors of every row."""
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
    """
    samples = replace(samples, rows=_shaped(samples.rows, opened, "the data"))
    if samples.labels is not None and samples.labels.dtype.kind == "M":
        samples = replace(samples, labels=None, periods=samples.labels)
    truth = known_truth(samples, normal)
    if samples.labels is not None and truth is None:
        check_classes(samples.labels)
    first, second = _two_parts(samples, truth, seed)
    pca = pca_subject(opened.scaler, samples.rows[first] if fit is None else fit, opened.latent_size)
    compared = opened.subjects if fit is None else (*opened.subjects, pca)
    measured = {subject.name: measure(subject, opened.scaler, samples.rows) for subject in compared}
    codes = {subject.name: measured[subject.name].codes for subject in opened.subjects}
    whole = [s for s in opened.subjects if measured[s.name].absolute is not None]
    images = are_images(opened.input.shape, series=samples.series or opened.input.window is not None)
    noisy = np.random.default_rng(seed).permutation(second)[:MOST_NOISY_ROWS]
    evaluation = Evaluation(
        rows=len(samples.rows),
        fit_rows=0 if fit is None else len(fit),
        compression=compression_of(samples.rows, opened.latent_size),
        error=tuple(error_figures(s, measured[s.name], samples.rows, images=images) for s in compared),
        robustness=robustness(
            [*whole, pca, identity_subject(opened.scaler)],
            opened.scaler,
            samples.rows[np.sort(noisy)],
            kinds=noise,
            levels=levels,
            seed=seed,
        ),
        downstream=_downstream(opened.scaler, samples, truth, codes, pca, seed),
        detection=() if truth is None else _detections(opened, samples, fit, measured, pca, truth, rule),
        kl=None if posterior is None else _kl(opened.scaler, posterior, codes["keras"], samples.rows),
    )
    return Outcome(opened, samples, truth, measured, evaluation)


def _shaped(rows: NDArray[Any], opened: Opened, what: str) -> NDArray[Any]:
    """Return rows as the model takes them."""
    shape = opened.input.shape
    if not len(rows) or int(np.prod(rows.shape[1:])) != opened.input.size:
        raise DataError(
            f"{what}: found {rows.shape}, the model takes samples of shape {shape}; (n, …) of them"
        )
    return rows.reshape(-1, *shape)


def _two_parts(samples: Samples, truth: Truth | None, seed: int) -> tuple[Any, Any]:
    """Return indices of two disjoint halves of the normal rows; of few rows, all twice."""
    rows = np.arange(len(samples.rows)) if truth is None else np.flatnonzero(~truth.anomalous)
    if len(rows) < 2 * LEAST_FIT_ROWS:
        return rows, rows
    if samples.series:
        first, second = halves(rows, seed, in_time=samples.overlap)
    else:
        first, second = np.split(np.random.default_rng(seed).permutation(len(rows)), [len(rows) // 2])
    return rows[first], rows[second]


def _downstream(
    scaler: Scaler,
    samples: Samples,
    truth: Truth | None,
    codes: Mapping[str, NDArray[Any]],
    pca: Evaluated,
    seed: int,
) -> Downstream | None:
    """Compare the codes with input and PCA; not for anomalies of a series, which are no classes."""
    labels = samples.labels
    if labels is None or (
        truth is not None and (samples.series or np.unique(labels, return_counts=True)[1].min() < 2)
    ):
        return None
    train, test = halves(labels, seed, in_time=samples.overlap if samples.series else None)
    chosen = np.concatenate([train, test])
    raw = scaler.scale(samples.rows[chosen])
    representations = {name: values[chosen] for name, values in codes.items()}
    representations[pca.name] = pca.reconstruct(samples.rows[chosen])[0]
    representations["raw input"] = raw.reshape(len(raw), -1)
    split = np.arange(len(train)), np.arange(len(train), len(chosen))
    return downstream(representations, labels[chosen], *split, seed=seed)


def _detections(
    opened: Opened,
    samples: Samples,
    fit: NDArray[Any] | None,
    measured: Mapping[str, Measured],
    pca: Evaluated,
    truth: Truth,
    rule: Rule,
) -> tuple[Detected, ...]:
    """Judge every subject, and the baselines where there are rows to fit them on."""
    found = [detection(s.name, measured[s.name].errors, s.threshold or 0.0, truth) for s in opened.subjects]
    if fit is None:
        return tuple(found)
    held_out = fit if opened.source is None else opened.source.rows
    limit = rule.choose(measure(pca, opened.scaler, held_out).errors).value
    found.append(detection(f"{pca.name} reconstruction", measured[pca.name].errors, limit, truth))
    forest = forest_scores(opened.scaler, fit)
    limit = rule.choose(forest(held_out)).value
    found.append(detection("isolation forest", forest(samples.rows), limit, truth))
    return tuple(found)


def _kl(scaler: Scaler, posterior: Any, means: NDArray[Any], rows: NDArray[Any]) -> tuple[float, ...]:
    """Return each dimension's KL from the standard normal: ``(μ² + σ² - 1 - log σ²) / 2``, in nats.

    Kingma and Welling 2014, "Auto-Encoding Variational Bayes", appendix B.
    """
    scaled = scaler.scale(rows).reshape(-1, *posterior.input_shape[1:])
    log_variance = posterior.predict(scaled, verbose=0).reshape(means.shape).astype(np.float64)
    terms = (np.square(means, dtype=np.float64) + np.exp(log_variance) - 1 - log_variance) / 2
    return tuple(terms.mean(axis=0).tolist())
