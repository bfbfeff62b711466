"""Bundles of format 1: their records, which know no further fields, and the way to those of today."""

from typing import Any, Literal

import msgspec

from ..names import Format, Precision, Role
from .manifest import Manifest


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record that refuses fields it does not know."""


class _Scaler(_Strict, frozen=True, kw_only=True):
    kind: Literal["minmax", "standard", "none"]
    offset: tuple[float, ...]
    gain: tuple[float, ...]


class _Input(_Strict, frozen=True, kw_only=True):
    shape: tuple[int, ...]
    features: tuple[str, ...] | None = None
    dtype: Literal["float32"] = "float32"
    window: int | None = None
    stride: int | None = None


class _Threshold(_Strict, frozen=True, kw_only=True):
    rule: str
    value: float
    rows: int
    quantiles: dict[str, float]


class _Fidelity(_Strict, frozen=True, kw_only=True):
    rows: int
    error_median: float
    error_p99: float
    rank_correlation: float
    embedding_cosine: float | None = None
    reconstruction_max: float | None = None
    false_alarms: float
    false_alarms_reference: float


class _Recipe(_Strict, frozen=True, kw_only=True):
    name: str
    calibration: Literal["minmax", "percentile", "entropy"] | None
    granularity: Literal["channel", "tensor"]
    rounding: Literal["compensated", "nearest"]
    activations: Literal["unsigned", "signed"]
    float_tensors: Literal["none", "code", "ends"]


class _Trial(_Strict, frozen=True, kw_only=True):
    recipe: str
    error_median: float
    rank_correlation: float


class _Artifact(_Strict, frozen=True, kw_only=True):
    role: Role
    precision: Precision
    format: Format
    path: str
    bytes: int
    sha256: str
    opset: int | None = None
    recipe: _Recipe | None = None
    trials: tuple[_Trial, ...] = ()
    fidelity: _Fidelity
    threshold: _Threshold


class _Manifest(_Strict, frozen=True, kw_only=True):
    format_version: int
    input: _Input
    scaler: _Scaler
    latent_size: int
    error: Literal["mse"]
    reference: _Threshold
    files: dict[str, str]
    artifacts: tuple[_Artifact, ...]
    producer: dict[str, str]


def read_format1(content: bytes) -> Manifest:
    """Read the bytes of a manifest of format 1.

    Raises:
        msgspec.ValidationError, ValueError: a field is missing, unknown or of a wrong type or value.
    """
    return msgspec.convert(msgspec.to_builtins(msgspec.json.decode(content, type=_Manifest)), Manifest)


def as_format1(manifest: Manifest) -> msgspec.Struct:
    """Return a manifest that was read by `read_format1` as it was, so that its digest stays the same."""
    return _reduced(manifest, _Manifest)


def _reduced(record: Any, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """Return the record with the fields of format 1 alone."""
    values: dict[str, Any] = {}
    for name in kind.__struct_fields__:
        value = getattr(record, name)
        inner = _KINDS.get(name)
        if inner is not None and value is not None and not isinstance(value, str):
            value = (
                tuple(_reduced(v, inner) for v in value)
                if isinstance(value, tuple)
                else _reduced(value, inner)
            )
        values[name] = value
    return kind(**values)


_KINDS: dict[str, type[msgspec.Struct]] = {
    "input": _Input,
    "scaler": _Scaler,
    "reference": _Threshold,
    "threshold": _Threshold,
    "fidelity": _Fidelity,
    "recipe": _Recipe,
    "trials": _Trial,
    "artifacts": _Artifact,
}
"""By the name of the field that holds it; a trial's ``recipe`` is only a name."""
