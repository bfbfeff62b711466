"""The files of a bundle, a module for each format."""

from typing import TYPE_CHECKING

from edgeae_runtime.lazy import attributes

if TYPE_CHECKING:
    from .graphs import role_function

__all__ = ["role_function"]

__getattr__ = attributes(__name__, {"role_function": "graphs"})
