"""Series of readings: their clock, and the windows over them."""

from typing import TYPE_CHECKING

from ..lazy import attributes

if TYPE_CHECKING:
    from .clock import Clock
    from .windows import too_short

__all__ = ["Clock", "too_short"]

__getattr__ = attributes(__name__, {"Clock": "clock", "too_short": "windows"})
