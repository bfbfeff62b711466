"""The bundle: its manifest, its files, its thresholds."""

from typing import TYPE_CHECKING

from ..lazy import attributes

if TYPE_CHECKING:
    from .manifest import FORMAT_VERSION, GOLDEN_NAME, TENSORS, artifact_name, encode_manifest
    from .thresholds import DEFAULT_RULE, Rule, RuleError

__all__ = [
    "DEFAULT_RULE",
    "FORMAT_VERSION",
    "GOLDEN_NAME",
    "TENSORS",
    "Rule",
    "RuleError",
    "artifact_name",
    "encode_manifest",
]

__getattr__ = attributes(
    __name__,
    {
        "DEFAULT_RULE": "thresholds",
        "FORMAT_VERSION": "manifest",
        "GOLDEN_NAME": "manifest",
        "Rule": "thresholds",
        "RuleError": "thresholds",
        "TENSORS": "manifest",
        "artifact_name": "manifest",
        "encode_manifest": "manifest",
    },
)
