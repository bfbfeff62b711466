"""Recalibrated thresholds, the alarm (m of n, hysteresis), and drift detection.

A threshold recalibrated from the device's own normal operation lies beside the bundle, never inside: the
bundle stays what was exported and verified. It holds for the manifest and the artifact that it was made with,
since another artifact's errors are others.

The alarm: m-of-n voting with a lower level for the end (hysteresis), an off time and a warm-up, the means
against chattering alarms of ISA-18.2, *Management of Alarm Systems for the Process Industries*.

Drift: two shares of the windows are followed, each an exponentially weighted moving average (Roberts,
*Control Chart Tests Based on Geometric Moving Averages*, Technometrics 1(3), 1959): of those above the normal
error's 90 % quantile, and of those above half its median. The first being over a half is the same as the
running median being above the normal 90 % quantile.
"""

import math
import os
import warnings
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from ._bundle import Bundle
from ._errors import BundleError, DataError, EdgeaeWarning
from ._manifest import Manifest, Threshold, manifest_digest

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)
"""Quantiles of the error that a `Threshold` keeps."""
LEAST_ERRORS = 20
"""Least number of errors from which a threshold is computed."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """When an alarm starts and when it ends; as it stands, it is on while the last window is an anomaly."""

    needed: int = 1
    """So many of the last `among` windows must be above the threshold for an alarm to start."""
    among: int = 1
    release: float = 1.0
    """The alarm ends once fewer than `needed` of the last `among` windows are above `release` times the
    threshold; at most 1. At 0.8 it stays on while the error hovers just below the threshold."""
    refractory: float = 0.0
    """Seconds after the end of an alarm in which no other one starts."""
    warm_up: int = 0
    """First windows of the stream that have no vote, while the machine or the sensor warms up."""

    def __post_init__(self) -> None:
        """Raise DataError for settings that no alarm can have."""
        if not 1 <= self.needed <= self.among:
            raise DataError(f"alarm: needs {self.needed} of {self.among} windows; want 1 <= needed <= among")
        if not 0 < self.release <= 1:
            raise DataError(f"alarm: release is {self.release:g}; want above 0 and at most 1")
        if not (0 <= self.refractory < math.inf and self.warm_up >= 0):
            raise DataError(
                f"alarm: refractory {self.refractory:g} s and warm_up {self.warm_up}; want 0 or more"
            )


class AlarmState(msgspec.Struct):
    """What an alarm remembers: a few numbers, whatever the length of the stream."""

    windows: int = 0
    """So far, those of the warm-up included."""
    above: int = 0
    """A bit for each of the last `Alarm.among` windows, the newest lowest: above the threshold?"""
    held: int = 0
    """The same for the level of release."""
    on: bool = False
    ended: float | None = None
    """Seconds at which the last alarm ended."""

    def count(self, alarm: Alarm, error: float, threshold: float, seconds: float) -> bool:
        """Take the next window's error at a time in seconds, and return whether the alarm is on."""
        self.windows += 1
        if self.windows <= alarm.warm_up:
            return False
        mask = (1 << alarm.among) - 1
        self.above = (self.above << 1 | (error > threshold)) & mask
        self.held = (self.held << 1 | (error > alarm.release * threshold)) & mask
        if self.on:
            self.on = self.held.bit_count() >= alarm.needed
            if not self.on:
                self.ended = seconds
        elif self.above.bit_count() >= alarm.needed:
            # a clock that was set back since must not silence the alarm until it catches up
            quiet = self.ended is not None and 0 <= seconds - self.ended < alarm.refractory
            self.on = not quiet
        return self.on


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How long the errors must differ from those of training until the stream reports drift."""

    memory: int = 1000
    """Windows: after so many, a window's weight has fallen to 37 %, and before so many nothing is reported.
    Take more than a whole cycle of the plant (a day, a week), else its quiet half counts as a drift."""

    def __post_init__(self) -> None:
        """Raise DataError for a memory of nothing."""
        if self.memory < 1:
            raise DataError(f"drift: memory is {self.memory} windows; want at least 1")


class DriftState(msgspec.Struct):
    """What drift detection remembers."""

    windows: int = 0
    high: float = 0.1
    """Share of the windows above the normal 90 % quantile; that of normal operation to begin with."""
    some: float = 0.9
    """Share of the windows above half the normal median."""
    reported: str | None = msgspec.field(default=None, name="said")
    """What it reported last; stored states call it ``said``."""

    def count(self, drift: Drift, error: float, quantiles: dict[str, float]) -> str | None:
        """Take the next window's error; return in words what is wrong, or None.

        What was once reported holds until the share is well back, so that it does not flicker.
        """
        rate = 1 / drift.memory
        top, bottom = quantiles["0.9"], quantiles["0.5"] / 2
        self.windows += 1
        self.high += rate * ((error > top) - self.high)
        self.some += rate * ((error >= bottom) - self.some)
        if self.windows < drift.memory:
            return None
        if self.high > (0.3 if self.reported else 0.5):
            self.reported = (
                f"errors are high: of about the last {drift.memory:,} windows {self.high:.0%} are above "
                f"{top:.3g}, where 10% should be; the machine, a sensor or the surroundings have changed: "
                "look into it, then recalibrate, or train again"
            )
        elif self.some < (0.3 if self.reported else 0.1):
            self.reported = (
                f"errors are low: of about the last {drift.memory:,} windows {1 - self.some:.0%} are below "
                f"{bottom:.3g}, half the usual median; a sensor may be stuck or the machine at rest"
            )
        else:
            self.reported = None
        return self.reported


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's content."""

    manifest: str
    """SHA-256 of the manifest that the thresholds belong to."""
    thresholds: dict[str, Threshold]
    """By artifact, such as ``scorer.int8.onnx``."""


def new_threshold(errors: ArrayLike, *, quantile: float = 0.99) -> Threshold:
    """Return the threshold that a share of normal windows stays below.

    Args:
        errors: of windows in normal operation, (n,), as `Detector.score` or a stream gives them.
        quantile: that share, above 0 and at most 1.

    Raises:
        DataError: fewer than `LEAST_ERRORS` errors, one that is not finite, more than one column, or a
            quantile out of range.
    """
    values = np.asarray(errors, np.float64)
    if values.ndim > 1 and values.size != len(values):
        raise DataError(f"errors: expected (n,), found {values.shape}; give the errors alone")
    values = values.reshape(-1)
    if not 0 < quantile <= 1:
        raise DataError(f"quantile is {quantile:g}; want above 0 and at most 1, such as 0.99")
    if len(values) < LEAST_ERRORS:
        raise DataError(
            f"{len(values)} windows of normal operation are too few for a threshold; "
            f"want at least {LEAST_ERRORS}, better some thousands"
        )
    if not np.isfinite(values).all():
        raise DataError("an error is not finite; leave out the readings that it comes from")
    return Threshold(
        rule=f"quantile:{quantile:g}",
        value=float(np.quantile(values, quantile)),
        rows=len(values),
        quantiles={str(q): float(np.quantile(values, q)) for q in QUANTILES},
    )


def threshold_path(bundle: str | os.PathLike[str]) -> Path:
    """Return the file beside a bundle that holds its recalibrated thresholds."""
    path = Path(bundle).absolute()
    return path.with_name(f"{path.name}.threshold.json")


def read_threshold(
    bundle: str | os.PathLike[str], artifact: str, manifest: Manifest | None = None
) -> Threshold | None:
    """Return the recalibrated threshold of an artifact, or None where there is none.

    Args:
        bundle: the bundle's path.
        artifact: the file in it, such as ``scorer.int8.onnx``.
        manifest: of what runs, when that may not be the bundle there.

    Raises:
        BundleError: the bundle cannot be opened, or the file beside it is damaged.
        (warning) EdgeaeWarning: the file belongs to another bundle of that name, and is ignored.
    """
    kept = _read(bundle)
    if kept is None:
        return None
    if kept.manifest != manifest_digest(manifest or Bundle(Path(bundle)).manifest):
        warnings.warn(
            f"{threshold_path(bundle)}: was made for another bundle, so the bundle's own threshold holds; "
            "run `edgeae recalibrate` again",
            EdgeaeWarning,
            stacklevel=2,
        )
        return None
    return kept.thresholds.get(artifact)


def write_threshold(bundle: str | os.PathLike[str], artifact: str, threshold: Threshold) -> Path:
    """Keep a threshold beside a bundle, and those that it has for other artifacts; return the file.

    Raises:
        BundleError: the bundle cannot be opened.
        OutputError: the disk refuses it; the file is as before.
    """
    manifest = Bundle(Path(bundle)).manifest
    if artifact not in [a.path for a in manifest.artifacts]:
        raise BundleError(f"{bundle}: has no {artifact}, so no threshold can be for it")
    digest = manifest_digest(manifest)
    try:
        kept = _read(bundle)
    except BundleError:  # damaged: replaced
        kept = None
    others = kept.thresholds if kept is not None and kept.manifest == digest else {}
    content = msgspec.json.encode(_Kept(digest, {**others, artifact: threshold}))
    path = threshold_path(bundle)
    from ._files import new_file  # which each start of a process does without

    with new_file(path) as file:
        file.write_bytes(msgspec.json.format(content, indent=2) + b"\n")
    return path


def _read(bundle: str | os.PathLike[str]) -> _Kept | None:
    path = threshold_path(bundle)
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise BundleError(
            f"{path}: cannot be read ({error}); remove it (edgeae recalibrate --reset) or recalibrate again"
        ) from error
