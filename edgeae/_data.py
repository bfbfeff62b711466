"""Training data: reading it from whatever people have, splitting it, scaling it."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError, Scaler
from edgeae_runtime._errors import Argument, EdgeaeWarning

from ._classes import LabelEncoder
from ._config import ScalerKind
from ._dataset import Data
from ._reading import File, as_rows, as_windows, read_part
from ._series import WindowStarts, check_window, split_in_time
from ._sources import DataSource, open_parts
from ._store import SpillBuffer, is_large, steps

MOST_NAMED_COLUMNS = 5
"""Most columns that a message names; of more it gives the number."""
LEAST_SPREAD = 1e-30
"""Least range, in raw units, of a column that is not constant. One over it, and over a standard deviation
a hundred million times less, is still a float32."""


def load_data(
    source: DataSource,
    *,
    columns: Sequence[str] | None = None,
    label_column: str | None = None,
    normal: str | int | None = None,
    window: int | None = None,
    stride: int = 1,
) -> Data:
    """Read training data, in raw units; what is too large for memory is kept in a temporary file.

    Of a table, numbers are features, and a column of dates or times is the time of the row.

    Args:
        source: a ``.csv``, ``.parquet``, ``.npy``, ``.npz`` or IDX file; several of them; a folder of
            tables, or of pictures (``.png``, ``.jpg``); an array (n, …); an Arrow table, a pandas
            DataFrame, or another table that exports itself as Arrow; or ``digits``: scikit-learn's
            1,797 images of 8x8.
        columns: the features of a table by name, else all columns of numbers; other sources are read whole.
        label_column: the column of a table that holds the labels.
        normal: keep only the rows with this label; for windows, those in which all readings have it.
        window: make samples (window, channels) of so many readings each. None of them reaches from one
            file into the next, nor across a gap: a step in time of more than 1.5 times the usual one.
        stride: readings from the start of one window to the start of the next.

    Raises:
        DataError: a source cannot be read; holds text, NaN or infinity; times do not increase, or no
            window fits, where windows are wanted; pictures differ in size; no row has the normal label.
        (warning) EdgeaeWarning: readings are left out because they are too few for a window.
    """
    check_window(window, stride)
    name = None if normal is None else str(normal)
    buffer, label_encoder, files = SpillBuffer(), LabelEncoder(), list[File]()
    features: tuple[str, ...] | None = None
    for part in open_parts(source, columns, label_column, series=window is not None):
        features = part.features if features is None else features
        files.append(read_part(part, buffer, label_encoder, name, window))
    if name is not None and not label_encoder.names:
        raise DataError(
            f"{files[0].where}: a normal label was named, but no labels; name their ",
            Argument("label_column"),
        )
    if name is not None and not label_encoder.matching(name):
        raise label_encoder.unknown(files[0].where, name)
    values = buffer.finish()
    if window is None:
        return as_rows(values, features, files, label_encoder)
    return as_windows(values, features, files, label_encoder, name, window, stride)


def hold_out(
    rows: NDArray[Any],
    validation_split: float,
    seed: int,
    *,
    segments: WindowStarts | None = None,
    window: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return training and held-out rows: drawn at random, or of a series the last ones held out.

    Args:
        rows: samples, (n, …).
        validation_split: the share to hold out.
        seed: for the draw.
        segments: `Data.segments`.
        window: `Data.window`; no reading is then in both parts.

    Raises:
        DataError: too few rows for either part to have one.
    """
    if segments is not None:
        return split_in_time(rows, validation_split, segments, window)
    held_out = round(len(rows) * validation_split)
    if not 0 < held_out < len(rows):
        raise DataError(
            f"{len(rows)} rows with a validation split of {validation_split:g} leave {held_out} held out and "
            f"{len(rows) - held_out} for training; both need at least one"
        )
    rng = np.random.default_rng(seed)
    if not is_large(rows):
        order = rng.permutation(len(rows))
        return rows[order[held_out:]], rows[order[:held_out]]
    train, held = SpillBuffer(), SpillBuffer()  # filled in the order of the file, which is read once
    for step in steps(rows):
        done = train.rows + held.rows + len(step)
        out = np.zeros(len(step), bool)
        out[rng.permutation(len(step))[: round(done * held_out / len(rows)) - held.rows]] = True
        train.append(step[~out])
        held.append(step[out])
    return train.finish(), held.finish()


def fit_scaler(
    rows: NDArray[Any], kind: ScalerKind, features: tuple[str, ...] | None, *, series: bool = False
) -> Scaler:
    """Fit a scaler on training rows (n, *shape) in raw units.

    A table is scaled column by column, and so are the channels of windows (``series``), where a reading
    counts as often as it is in a window. Images (two axes or more) are scaled as a whole, since a pixel
    that is black in all of them has no range of its own. A constant column is centred and left unscaled,
    so that a later departure from the constant shows in raw units. Constant is also what float32, in
    which every artifact computes, cannot distinguish or cannot stretch to a range of one.

    Raises:
        DataError: all values are the same, so there is nothing to learn; or a range is beyond float32's.
        (warning) EdgeaeWarning: some columns are constant.
    """
    columns = rows.shape[-1] if rows.ndim == 2 or series else 1
    low, high, mean, deviation = _statistics(rows, columns)
    spread = high.astype(np.float64) - low
    constant = spread < LEAST_SPREAD
    if constant.all():
        raise DataError("every column is constant in the training rows; there is nothing to learn")
    if np.any(too_wide := spread > np.finfo(np.float32).max):
        raise DataError(
            f"the range of column {_named(np.flatnonzero(too_wide), features)} is beyond what float32 holds; "
            "rescale it or leave it out"
        )
    if constant.any():
        warnings.warn(
            f"constant in the training rows: column {_named(np.flatnonzero(constant), features)}; "
            "centred and left unscaled",
            EdgeaeWarning,
            stacklevel=2,
        )
    if kind == "minmax":
        offset, span = low, spread
    else:
        offset, span = mean, deviation
    # float32 is what every artifact computes with; record exactly the numbers that will be used
    gain = (1 / np.where(constant, 1.0, span)).astype(np.float32)
    shift = np.where(constant, low, offset).astype(np.float32)
    return Scaler(kind=kind, offset=tuple(shift.tolist()), gain=tuple(gain.tolist()))


def _statistics(rows: NDArray[Any], columns: int) -> tuple[NDArray[Any], ...]:
    """Return least and largest value (float32), mean and standard deviation (float64), each (columns,).

    Over rows (n, …) whose last axis is that of the columns, or all as one column; in one pass over steps
    of a bounded size, by Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances" (1979), equation 2.1.
    """
    low, high = np.full(columns, np.inf, np.float32), np.full(columns, -np.inf, np.float32)
    count, mean, squares = 0, np.zeros(columns), np.zeros(columns)
    for step in steps(rows):
        flat = step.reshape(-1, columns)
        low = np.minimum(low, flat.min(axis=0).astype(np.float32))
        high = np.maximum(high, flat.max(axis=0).astype(np.float32))
        here = flat.mean(axis=0, dtype=np.float64)
        total = count + len(flat)
        moved = here - mean
        squares += np.square(flat - here).sum(axis=0) + np.square(moved) * (count * len(flat) / total)
        mean = mean + moved * (len(flat) / total)
        count = total
    return low, high, mean, np.sqrt(squares / count)


def _named(columns: NDArray[np.intp], features: tuple[str, ...] | None) -> str:
    names = [features[i] if features else str(i + 1) for i in columns[:MOST_NAMED_COLUMNS]]
    more = f" and {len(columns) - MOST_NAMED_COLUMNS} more" if len(columns) > MOST_NAMED_COLUMNS else ""
    return ", ".join(names) + more
