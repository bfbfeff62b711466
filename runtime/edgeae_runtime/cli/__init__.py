"""The command ``edgeae``, and those of its subcommands that a device needs."""

from typing import TYPE_CHECKING

from ..lazy import attributes

if TYPE_CHECKING:
    from .terminal import format_table, progress_bar

__all__ = ["format_table", "progress_bar"]

__getattr__ = attributes(__name__, {"format_table": "terminal", "progress_bar": "terminal"})
