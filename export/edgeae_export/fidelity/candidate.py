"""An artifact that was made, before it is known whether it goes into the bundle."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from edgeae_runtime import Artifact


@dataclass(frozen=True)
class Candidate:
    """An artifact with its content and its violations of the fidelity limits."""

    artifact: Artifact
    content: bytes
    violations: list[str]
    """Limits that it exceeds, with the figures; empty for a faithful artifact."""
    golden: dict[str, NDArray[Any]]
    """Its inputs, where they are its own, and outputs for the golden rows."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Files that belong beside it, by name."""
