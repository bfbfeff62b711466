"""The one progress bar of all commands."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import click


def progress_bar(
    label: str, length: int, show: Callable[[Any], str] | None = None
) -> AbstractContextManager[Any]:
    """Return click's bar on standard error, silent where that is no terminal.

    Args:
        label: what stands before it.
        length: steps.
        show: makes the text behind it from the item that is passed to ``update``.
    """
    hidden = not sys.stderr.isatty()
    return click.progressbar(length=length, label=label, item_show_func=show, hidden=hidden, file=sys.stderr)
