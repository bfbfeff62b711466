"""Model files, read without the packages that make them and without trust."""

from typing import TYPE_CHECKING

from ..lazy import attributes

if TYPE_CHECKING:
    from .onnx_file import read_model
    from .overflow import overflowing_weights

__all__ = ["overflowing_weights", "read_model"]

__getattr__ = attributes(__name__, {"overflowing_weights": "overflow", "read_model": "onnx_file"})
