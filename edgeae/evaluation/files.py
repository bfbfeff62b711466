"""From files to what is evaluated: a run or bundle, rows, labels and times."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_export.model import load_keras
from edgeae_export.source import RUN_NAME
from edgeae_runtime import DataError, Input
from edgeae_runtime.bundle import DEFAULT_RULE, Rule
from edgeae_runtime.errors import Argument
from edgeae_runtime.readers import is_table, read

from ..config import NOISES, NoiseKind
from ..data.label_codes import of_windows
from ..data.labels import read_labels
from ..data.load import load_data
from .evaluate import Outcome, evaluate_opened
from .ground_truth import Samples
from .subjects import open_subjects

POSTERIOR_NAME = "posterior.keras"
"""In the folder of a variational run: the model of the code's log-variance."""


def evaluate_files(
    model: Path,
    data: Path | None,
    *,
    labels: Path | None = None,
    label_column: str | None = None,
    normal: str | None = None,
    fit_data: Path | None = None,
    threshold: str = str(DEFAULT_RULE),
    noise: Sequence[NoiseKind] = NOISES,
    seed: int = 0,
    progress: Callable[[str], None] = lambda step: None,
) -> Outcome:
    """Read a run or bundle and data, and evaluate the one on the other.

    Args:
        model: run folder or bundle.
        data: file of samples; None takes the run's held-out rows.
        labels: file of labels, see `read_labels`.
        label_column: column of the labels in ``data``, a table.
        normal: as for `evaluate`, and so are the others.
        fit_data: file of normal rows that the baselines are fitted on.
        threshold: rule.
        noise: kinds.
        seed: for everything random.
        progress: called with the name of each of the `STEPS` before it is done.

    Raises:
        EdgeaeError: as for `evaluate`; or a file cannot be read.
    """
    if labels is not None and label_column is not None:
        raise DataError(
            "labels: both ",
            Argument("labels"),
            " and ",
            Argument("label_column"),
            " say what they are; pass one of the two",
        )
    rule = Rule.parse(threshold)
    opened = open_subjects(model, rule)
    fit = None if fit_data is None else read_samples(fit_data, opened.input, None, None).rows
    if data is None:
        if opened.source is None:
            raise DataError(f"{model}: a bundle holds no rows to evaluate on; name a file of samples")
        if label_column is not None:
            raise DataError(
                "labels: ",
                Argument("label_column"),
                " names a column of ",
                Argument("data"),
                ", which is missing; pass both",
            )
        known = None if labels is None else read_labels(labels)
        samples = Samples(opened.source.rows, labels=known, series=opened.input.window is not None)
    else:
        samples = read_samples(data, opened.input, labels, label_column, normal)
        if fit is None and opened.source is not None:
            fit = opened.source.rows
    posterior = model / POSTERIOR_NAME
    is_variational = (model / RUN_NAME).is_file() and posterior.is_file()
    return evaluate_opened(
        opened,
        samples,
        fit,
        normal=normal,
        rule=rule,
        noise=noise,
        seed=seed,
        posterior=load_keras(posterior) if is_variational else None,
        progress=progress,
    )


def read_samples(
    data: Path, shape: Input, labels: Path | None, label_column: str | None, normal: str | None = None
) -> Samples:
    """Read a file of samples as the model takes them, with its labels.

    A window has the label ``normal`` where all its readings have it, else the last one that is another.

    Raises:
        DataError: a file cannot be read, lacks a column that the model was trained on, or has no window.
    """
    known = None if labels is None else read_labels(labels)
    is_array = shape.window is not None and not is_table(data)
    if is_array and (rows := read(data).values).shape[1:] == shape.shape:
        return Samples(rows, labels=known, series=True, overlap=_overlap(shape))
    found = load_data(
        str(data),
        columns=shape.features,
        label_column=label_column if shape.window is None or normal is None else None,
        window=shape.window,
        stride=shape.stride or 1,
    )
    samples = Samples(found.values, labels=found.labels if known is None else known)
    if shape.window is None:
        return samples
    samples = replace(samples, timestamps=found.timestamps, series=True, overlap=_overlap(shape))
    if label_column is not None and normal is not None:  # else what is normal was guessed, with a warning
        starts = np.concatenate([np.asarray(r) for r in (found.segments or ((),))[0]])
        samples = replace(samples, labels=_window_labels(data, shape, label_column, normal, starts))
    if samples.timestamps is None or len(samples.timestamps) < 2:
        return samples
    step = np.median(np.diff(samples.timestamps).astype(np.int64)) / (shape.stride or 1)
    return replace(samples, span=np.timedelta64(round((shape.window - 1) * step), "us"))


def _window_labels(
    data: Path, shape: Input, label_column: str, normal: str, starts: NDArray[np.int64]
) -> NDArray[Any]:
    """Return the label of each window that starts at these readings."""
    assert shape.window is not None
    known = load_data(str(data), columns=shape.features, label_column=label_column).labels
    assert known is not None
    names, codes = np.unique(known.astype(str), return_inverse=True)
    is_normal = names == normal
    code = int(np.argmax(is_normal)) if is_normal.any() else len(names)
    chosen: NDArray[Any] = names[of_windows(codes.astype(np.int32), starts, shape.window, code)]
    return chosen


def _overlap(shape: Input) -> int:
    """Return how many windows after one share readings with it."""
    assert shape.window is not None
    return -(-shape.window // (shape.stride or 1)) - 1
