"""What several commands share, and packages that a device has only where an extra was asked for."""

import importlib
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ._errors import EdgeaeError

_EXTRAS = {"matplotlib": "plot", "paho": "mqtt", "pyarrow": "parquet", "ray": "ray"}


def import_extra(name: str) -> Any:
    """Import a module of an optional package, where it is needed and not before.

    Raises:
        EdgeaeError: it is not installed; with the extra that installs it.
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EdgeaeError(
            f"{package} is not installed here ({error}); pip install 'edgeae-runtime[{_EXTRAS[package]}]'"
        ) from error


def progress_bar(
    label: str, length: int, show: Callable[[Any], str] | None = None
) -> AbstractContextManager[Any]:
    """Return click's bar of some steps on standard error, silent where that is no terminal.

    ``show`` makes the text behind it from the item that is passed to ``update``.
    """
    import click

    hidden = not sys.stderr.isatty()
    return click.progressbar(length=length, label=label, item_show_func=show, hidden=hidden, file=sys.stderr)


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as aligned text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)
