"""The bundle: its manifest, its files, its thresholds."""

from typing import TYPE_CHECKING

from ..lazy import attributes

if TYPE_CHECKING:
    from .codec import FORMAT_VERSION, NEEDS_RUNTIME, encode_manifest
    from .manifest import GOLDEN_NAME, TENSORS, Calibration, DataFile, Provenance, artifact_name
    from .thresholds import DEFAULT_RULE, Rule, RuleError

__all__ = [
    "DEFAULT_RULE",
    "FORMAT_VERSION",
    "GOLDEN_NAME",
    "NEEDS_RUNTIME",
    "TENSORS",
    "Calibration",
    "DataFile",
    "Provenance",
    "Rule",
    "RuleError",
    "artifact_name",
    "encode_manifest",
]

__getattr__ = attributes(
    __name__,
    {
        "Calibration": "manifest",
        "DEFAULT_RULE": "thresholds",
        "DataFile": "manifest",
        "FORMAT_VERSION": "codec",
        "GOLDEN_NAME": "manifest",
        "NEEDS_RUNTIME": "codec",
        "Provenance": "manifest",
        "Rule": "thresholds",
        "RuleError": "thresholds",
        "TENSORS": "manifest",
        "artifact_name": "manifest",
        "encode_manifest": "codec",
    },
)
