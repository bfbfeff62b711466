"""How far an artifact is from the float Keras model, and whether that is near enough."""

from typing import TYPE_CHECKING

from edgeae_runtime.lazy import attributes

if TYPE_CHECKING:
    from .candidate import Candidate
    from .reference import Reference, predict
    from .table import fidelity_table

__all__ = ["Candidate", "Reference", "fidelity_table", "predict"]

__getattr__ = attributes(
    __name__,
    {
        "Candidate": "candidate",
        "Reference": "reference",
        "fidelity_table": "table",
        "predict": "reference",
    },
)
