"""The figures of the evaluation that no other section draws, as tables."""

from ...evaluation.tables import tables
from ..layout import Page, table_section


def section(page: Page) -> str:
    """Return a section for each table."""
    return "\n".join(map(table_section, tables(page.outcome.evaluation, drawn=False)))
