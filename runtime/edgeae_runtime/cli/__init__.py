"""The command ``edgeae``, and those of its subcommands that a device needs."""

from typing import TYPE_CHECKING

from ..lazy import attributes

if TYPE_CHECKING:
    from .options import chosen, setting_options
    from .terminal import format_table, progress_bar, step_bar

__all__ = ["chosen", "format_table", "progress_bar", "setting_options", "step_bar"]

__getattr__ = attributes(
    __name__,
    {
        "chosen": "options",
        "format_table": "terminal",
        "progress_bar": "terminal",
        "setting_options": "options",
        "step_bar": "terminal",
    },
)
