"""What people see in a terminal: a progress bar, and tables."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any


def progress_bar(
    label: str, length: int, show: Callable[[Any], str] | None = None
) -> AbstractContextManager[Any]:
    """Return click's bar on standard error, silent where that is no terminal; ``show`` makes its text."""
    import click

    hidden = not sys.stderr.isatty()
    return click.progressbar(length=length, label=label, item_show_func=show, hidden=hidden, file=sys.stderr)


@contextmanager
def step_bar(label: str, steps: int) -> Iterator[Callable[[str], None]]:
    """Show `progress_bar`; what it gives is called with the name of each step before it is done."""

    def show(step: str | None) -> str:
        return step or ""

    with progress_bar(label, steps, show) as bar:
        yield lambda step: bar.update(1, step)


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as aligned text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
