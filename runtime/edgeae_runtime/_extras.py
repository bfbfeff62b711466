"""Packages that a device has only where an extra was asked for."""

import importlib
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
