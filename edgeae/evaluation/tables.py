"""An evaluation as tables of text, for the terminal and for the report."""

import textwrap
from collections.abc import Iterator

from edgeae_runtime.cli import format_table

from .figures import MEASURES, Evaluation
from .report_table import ReportTable

TEXT_WIDTH = 100


def as_text(evaluation: Evaluation) -> str:
    """Return all figures of an evaluation as aligned tables."""
    blocks = [
        f"{table.title}\n{format_table(table.rows)}\n{textwrap.fill(table.note, TEXT_WIDTH)}"
        for table in tables(evaluation)
    ]
    return "\n\n".join(blocks)


def tables(evaluation: Evaluation, *, drawn: bool = True) -> Iterator[ReportTable]:
    """Yield the tables of an evaluation, in the order in which they are best read.

    Args:
        evaluation: the figures.
        drawn: whether to yield those of figures too that the report draws.
    """
    for measure in MEASURES:
        if drawn or not measure.is_drawn:
            yield from measure.tables(evaluation)
