"""Files of samples: one door, a module for each format."""

from typing import TYPE_CHECKING

from ..lazy import attributes

if TYPE_CHECKING:
    from .open import is_table, known_names, open_table, read, read_labels, read_pieces
    from .table import PIECE_VALUES, OpenTable, Piece

__all__ = [
    "PIECE_VALUES",
    "OpenTable",
    "Piece",
    "is_table",
    "known_names",
    "open_table",
    "read",
    "read_labels",
    "read_pieces",
]

__getattr__ = attributes(
    __name__,
    {
        "OpenTable": "table",
        "PIECE_VALUES": "table",
        "Piece": "table",
        "is_table": "open",
        "known_names": "open",
        "open_table": "open",
        "read": "open",
        "read_labels": "open",
        "read_pieces": "open",
    },
)
