"""The inference engines, and the choice among them."""

from typing import TYPE_CHECKING

from ..lazy import attributes

if TYPE_CHECKING:
    from .base import run_batches
    from .golden import golden_key
    from .registry import engines_of, load_engine

__all__ = ["engines_of", "golden_key", "load_engine", "run_batches"]

__getattr__ = attributes(
    __name__,
    {"engines_of": "registry", "golden_key": "golden", "load_engine": "registry", "run_batches": "base"},
)
