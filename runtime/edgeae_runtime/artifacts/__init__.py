"""Model files, read without the packages that make them and without trust."""

from typing import TYPE_CHECKING

from ..lazy import attributes

if TYPE_CHECKING:
    from .overflow import overflowing_weights

__all__ = ["overflowing_weights"]

__getattr__ = attributes(__name__, {"overflowing_weights": "overflow"})
