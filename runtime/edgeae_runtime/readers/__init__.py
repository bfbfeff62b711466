"""Files of samples, a module for each format."""

from typing import TYPE_CHECKING

from ..lazy import attributes

if TYPE_CHECKING:
    from .arrow import ArrowTable
    from .csv import Csv
    from .open import read, read_pieces
    from .table import PIECE_VALUES, Piece

__all__ = ["PIECE_VALUES", "ArrowTable", "Csv", "Piece", "read", "read_pieces"]

__getattr__ = attributes(
    __name__,
    {
        "ArrowTable": "arrow",
        "Csv": "csv",
        "PIECE_VALUES": "table",
        "Piece": "table",
        "read": "open",
        "read_pieces": "open",
    },
)
