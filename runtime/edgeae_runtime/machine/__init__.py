"""The machine that all of this runs on: its name, and its clock."""

from typing import TYPE_CHECKING

from ..lazy import attributes

if TYPE_CHECKING:
    from .timing import Seconds, interleave, percentiles

__all__ = ["Seconds", "interleave", "percentiles"]

__getattr__ = attributes(__name__, {"Seconds": "timing", "interleave": "timing", "percentiles": "timing"})
