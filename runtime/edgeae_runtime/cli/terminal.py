"""What people see in a terminal: a progress bar, and tables."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any


def progress_bar(
    label: str, length: int, show: Callable[[Any], str] | None = None
) -> AbstractContextManager[Any]:
    """Return click's bar on standard error, silent where that is no terminal; ``show`` makes its text."""
    import click

    hidden = not sys.stderr.isatty()
    return click.progressbar(length=length, label=label, item_show_func=show, hidden=hidden, file=sys.stderr)


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as aligned text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
