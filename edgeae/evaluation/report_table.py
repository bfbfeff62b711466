"""A table of figures as text, and how a number is written in it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReportTable:
    """A heading row, then one row a subject."""

    title: str
    rows: list[list[str]]
    note: str
    """What the figures mean."""


def number(value: float | None) -> str:
    """Return a number with four digits; nothing for None."""
    return "" if value is None else f"{value:.4g}"


def share(value: float | None) -> str:
    """Return a share as a percentage; nothing for None."""
    return "" if value is None else f"{value:.2%}"
