"""Whether the calibration rows are such as the model knows; and if not, what may be the reason.

A model that scales inside and answers in its own units is the reason that numbers give away: its output is
then an affine map of its input. The map is looked for in the whole sample (a Rescaling layer), then in each
value of it (a Normalization layer), by least squares. That alone proves nothing: rows far from those of the
training make a network's answer affine too. So there must also be something in the model that scales.
"""

import itertools
import warnings
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError
from edgeae_runtime.errors import Argument, EdgeaeWarning

from .reference import Reference

LEAST_EXPLAINED = 0.1
"""Share of the rows' variance that a model which knows such rows explains at the very least."""
LEAST_MAPPED = 0.5
"""Share of the output's variance that a map explains which is worth telling."""
_HOW = " (of a Sequential: keras.Sequential([keras.Input(model.input_shape[1:]), *model.layers[1:]]))"
_SCALING = {"Rescaling", "Lambda", "Add", "Subtract", "Multiply", "Divide", "TrueDivide"}
"""Keras's operations that bring an input to other units; of a Normalization, rebuilt, there are two."""


def check_rows(calibration: Reference) -> None:
    """Refuse rows that say nothing about ranges or that the model does not know at all.

    Raises:
        DataError: all rows are the same; or the error is no smaller than that of their mean.
        (warning) EdgeaeWarning: it is hardly smaller.
    """
    spread = float(np.var(calibration.scaled, axis=0, dtype=np.float64).mean())
    if spread == 0:
        raise DataError("the calibration rows are all the same; pass real, varied rows")
    explained = 1 - float(np.mean(calibration.error)) / spread
    if explained >= LEAST_EXPLAINED:
        return
    reason = _scales_inside(calibration) or (
        "they are unlike what it was trained on, or not in its units (",
        Argument("scaler"),
        " brings raw units to those)",
    )
    if explained <= 0:
        raise DataError(
            f"the model explains nothing of the variance of the calibration rows (its mean error is "
            f"{1 - explained:.3g} times that of answering with their mean): ",
            *reason,
        )
    warnings.warn(
        EdgeaeWarning(
            f"the model explains {explained:.0%} of the variance of the calibration rows: ",
            *reason,
            "; ranges and thresholds taken from them will not fit",
        ),
        stacklevel=2,
    )


class _RawRange:
    """The raw values that a model sees as 0 and 1: an option takes the two, Python a Scaler."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __str__(self) -> str:
        return f"{self.low:.7g} {self.high:.7g}"

    def __repr__(self) -> str:
        return f"Scaler(kind='minmax', offset=({self.low:.7g},), gain=({1 / (self.high - self.low):.7g},))"


def _scales_inside(calibration: Reference) -> tuple[str | Argument, ...] | None:
    """Return what the output is of the input, and what to do about it; None where that is not the reason."""
    before = itertools.takewhile(
        lambda o: not getattr(o, "weights", ()), calibration.source.encoder.operations
    )
    scaling = [operation for operation in before if type(operation).__name__ in _SCALING]
    if not scaling:
        return None
    given = calibration.scaled.reshape(len(calibration.scaled), -1).astype(np.float64)
    answer = calibration.reconstruction.reshape(given.shape).astype(np.float64)
    if _mapped(given, answer, whole=True) > LEAST_MAPPED:
        # a good model's error does not depend on its output, so this way round the gain is not too small
        inverse, shift = np.polyfit(answer.ravel(), given.ravel(), 1)
        gain, offset, layer = 1 / inverse, -shift / inverse, "layer"
        if isinstance(scaling[0], keras.layers.Rescaling) and np.ndim(scaling[0].scale) == 0:
            if not np.isclose(scaling[0].scale, gain, rtol=0.5):
                return None
            gain, offset = float(scaling[0].scale), float(scaling[0].offset)
            layer = f"layer '{scaling[0].name}'"
        scaler = calibration.source.scaler
        instead: str | Argument = "a Scaler that does so"
        if len(scaler.gain) == 1 and gain * scaler.gain[0] > 0:
            low, high = (scaled / scaler.gain[0] + scaler.offset[0] for scaled in _unit(gain, offset))
            instead = Argument("scaler", _RawRange(low, high))
        return (
            f"its output is {gain:.3g} · input {offset:+.3g}, so it rescales inside and answers in its own "
            f"units; export it without that {layer}{_HOW} and with ",
            instead,
        )
    if len(scaling) > 1 and _mapped(given, answer, whole=False) > LEAST_MAPPED:
        return (
            "each value of its output is an affine map of the input's, so it normalizes inside and answers "
            f"in its own units; export it without that layer{_HOW} and in Python, with scaler=Scaler("
            "kind='standard', offset=its mean, gain=1 / the root of its variance)",
        )
    return None


def _unit(gain: float, offset: float) -> tuple[float, float]:
    """Return what a map takes to 0 and to 1."""
    return (0.0 - offset) / gain, (1 - offset) / gain


def _mapped(given: NDArray[np.float64], answer: NDArray[np.float64], *, whole: bool) -> float:
    """Return the share of the answer's variance, about each value's mean, that the best map explains."""
    axis = None if whole else 0
    x, y = given - given.mean(axis), answer - answer.mean(axis)
    power = np.square(x).sum(axis)
    gain = (x * y).sum(axis) / np.where(power > 0, power, 1)
    varied = float(np.square(answer - answer.mean(0)).sum())
    return 1 - float(np.square(y - gain * x).sum()) / varied if varied > 0 else 0.0


LEAST_ROWS = 20
"""Held-out rows below which neither a calibration nor a threshold means anything."""
MOST_CALIBRATION_ROWS = 1024


def split_rows(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows to calibrate on and others to judge on and to take the thresholds from."""
    if len(rows) < LEAST_ROWS:
        raise DataError(
            f"{len(rows)} held-out rows are too few to calibrate and to set a threshold, at least "
            f"{LEAST_ROWS} are needed; give more rows (for a run: train with a larger ",
            Argument("validation_split"),
            ")",
        )
    half = len(rows) // 2
    return rows[:half][:MOST_CALIBRATION_ROWS], rows[half:]
