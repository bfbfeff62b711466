"""Training rows and held-out rows: drawn at random, or later in time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError

from .series import WindowStarts
from .spill import SpillBuffer, is_large, steps


def split_in_time(
    rows: NDArray[Any], share: float, segments: WindowStarts, window: int | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return training and held-out samples: of each file the last are held out.

    Between the two lie the windows that have readings in both; they are in neither.

    Args:
        rows: samples, (n, …).
        share: of the samples of each file that is held out.
        segments: where they lie; see `Data.segments`.
        window: readings in a sample; None for one.

    Raises:
        DataError: nothing is left for one of the parts.
    """
    train: list[NDArray[Any]] = []
    held: list[NDArray[Any]] = []
    first = 0
    for file in segments:
        count = sum(map(len, file))
        out = round(count * share)
        starts = np.concatenate([np.arange(s.start, s.stop, s.step) for s in file])
        border = starts[count - out] if out else np.inf
        kept = int(np.searchsorted(starts, border - (window or 1), side="right"))
        train.append(rows[first : first + kept])
        held.append(rows[first + count - out : first + count])
        first += count
    if not sum(map(len, train)) or not sum(map(len, held)):
        what = "rows" if window is None else f"windows of {window:,} readings"
        raise DataError(
            f"{len(rows):,} {what}, the last {share:.0%} of them held out, leave {sum(map(len, held)):,} "
            f"held out and {sum(map(len, train)):,} for training that share no reading with those; both need "
            "at least one: give a longer series, or a smaller window"
        )
    return _joined(train), _joined(held)


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    filled = [part for part in parts if len(part)]
    if len(filled) == 1:
        return filled[0]
    if any(is_large(part) for part in filled):
        return SpillBuffer().extend(step for part in filled for step in steps(part)).finish()
    return np.concatenate(filled)


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
