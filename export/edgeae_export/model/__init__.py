"""Keras models: read, taken apart, checked."""

from typing import TYPE_CHECKING

from edgeae_runtime.lazy import attributes

if TYPE_CHECKING:
    from .halves import split_model
    from .load import load_keras, load_run

__all__ = ["load_keras", "load_run", "split_model"]

__getattr__ = attributes(__name__, {"load_keras": "load", "load_run": "load", "split_model": "halves"})
