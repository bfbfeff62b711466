"""Whether a manifest's numbers can be meant: finite, in range, and of one another's size.

Their types are checked when it is read. A manifest that was changed on the way, or made to harm, would
otherwise be believed: a shape without end, a threshold that nothing is above.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .manifest import Artifact, Fidelity, Input, Manifest, Threshold

MAX_VALUES = 2**24
"""Values of a sample, and of an embedding; as float32 64 MiB."""

MAX_BYTES = 2**30
"""Of an artifact."""

MAX_AXES = 8
MAX_COUNT = 2**53
"""Of rows: integers up to here are exact in every reader of JSON."""

MAX_ERROR = 3.4028234663852886e38
"""The largest float32; artifacts give errors as such."""

_ROUNDING = 1e-6
"""By which a correlation or cosine may exceed 1."""


def check_manifest(manifest: "Manifest") -> None:
    """Refuse a manifest whose numbers are out of range or contradict one another.

    Raises:
        ValueError: which, and what was expected.
    """
    if manifest.format_version < 1:
        raise ValueError(f"format_version is {manifest.format_version}, expected at least 1")
    _check_input(manifest.input)
    _between("latent_size", manifest.latent_size, 1, MAX_VALUES)
    _check_threshold("reference", manifest.reference)
    if manifest.id is not None:
        _check_digest("id", manifest.id)
    for data in manifest.provenance.data if manifest.provenance else ():
        _check_digest(data.name[:80], data.sha256)
        _between("provenance: rows", data.rows, 0, MAX_COUNT)
    if manifest.calibration is not None:
        _between("calibration.rows", manifest.calibration.rows, 1, MAX_COUNT)
        _between("calibration.independent_rows", manifest.calibration.independent_rows, 0, MAX_COUNT)
    if len(manifest.columns) > MAX_VALUES:
        raise ValueError(f"{len(manifest.columns)} columns, expected at most {MAX_VALUES}")
    kinds, paths = set(), {*manifest.files}
    for name, digest in manifest.files.items():
        _check_digest(name, digest)
    for artifact in manifest.artifacts:
        _check_artifact(artifact)
        kind = (artifact.role, artifact.precision, artifact.format)
        if kind in kinds or artifact.path in paths:
            raise ValueError(f"{artifact.path} is listed twice, by its name or its kind")
        kinds.add(kind)
        paths.add(artifact.path)


def _check_input(given: "Input") -> None:
    if not 1 <= len(given.shape) <= MAX_AXES or min(given.shape) < 1 or given.size > MAX_VALUES:
        raise ValueError(
            f"input.shape is {list(given.shape)[:MAX_AXES]}, expected 1 to {MAX_AXES} positive numbers of at "
            f"most {MAX_VALUES} values"
        )
    if given.features is not None and len(given.features) not in (given.shape[-1], given.size):
        raise ValueError(f"input has {len(given.features)} features for {given.shape[-1]} values")
    if given.window is not None:
        _between("input.window", given.window, 1, given.size)
    if given.stride is not None:
        _between("input.stride", given.stride, 1, MAX_COUNT)


def _check_artifact(artifact: "Artifact") -> None:
    name = artifact.path
    _between(f"{name}: bytes", artifact.bytes, 0, MAX_BYTES)
    _check_digest(name, artifact.sha256)
    if artifact.opset is not None:
        _between(f"{name}: opset", artifact.opset, 1, 1000)
    for trial in artifact.trials:
        _between(f"{name}: error_median", trial.error_median, 0, MAX_ERROR)
        _between(f"{name}: rank_correlation", trial.rank_correlation, -1 - _ROUNDING, 1 + _ROUNDING)
    _check_fidelity(name, artifact.fidelity)
    _check_threshold(name, artifact.threshold)


def _check_fidelity(name: str, fidelity: "Fidelity") -> None:
    _between(f"{name}: fidelity.rows", fidelity.rows, 1, MAX_COUNT)
    for field in ("false_alarms", "false_alarms_reference"):
        _between(f"{name}: {field}", getattr(fidelity, field), 0, 1)
    for field in ("rank_correlation", "embedding_cosine"):
        _between(f"{name}: {field}", getattr(fidelity, field), -1 - _ROUNDING, 1 + _ROUNDING)
    for field in ("error_median", "error_p99", "reconstruction_max"):
        _between(f"{name}: {field}", getattr(fidelity, field), 0, MAX_ERROR)


def _check_threshold(name: str, threshold: "Threshold") -> None:
    _between(f"{name}: threshold", threshold.value, 0, MAX_ERROR)
    _between(f"{name}: threshold.rows", threshold.rows, 1, MAX_COUNT)
    _between(f"{name}: threshold.independent_rows", threshold.independent_rows, 0, MAX_COUNT)
    _between(f"{name}: threshold.false_alarm_rate", threshold.false_alarm_rate, 0, 1)
    _between(f"{name}: threshold.upper_bound", threshold.upper_bound, 0, 1)
    before = 0.0
    for share, value in sorted((_share(name, key), value) for key, value in threshold.quantiles.items()):
        if not before <= value <= MAX_ERROR:
            raise ValueError(f"{name}: quantile {share} is {value}, expected {before} or more, and finite")
        before = value


def _share(name: str, key: str) -> float:
    try:
        share = float(key)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: quantile {key[:20]!r} is none, expected a number from 0 to 1")
    return share


def _between(what: str, value: float | None, low: float, high: float) -> None:
    """Refuse a number out of range; NaN is in none."""
    if value is not None and not low <= value <= high:
        raise ValueError(f"{what} is {value}, expected {low:g} to {high:g}")


def is_sha256(text: str) -> bool:
    """Return whether a text is a SHA-256, in lower-case hexadecimal digits."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _check_digest(name: str, digest: str) -> None:
    if not is_sha256(digest):
        raise ValueError(f"{name}: {digest[:80]!r} is no SHA-256")
