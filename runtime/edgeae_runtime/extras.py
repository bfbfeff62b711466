"""Optional packages: imported, or the extra named that installs them."""

import importlib
from typing import Any

from .errors import EdgeaeError

_EXTRAS = {"matplotlib": "plot", "paho": "mqtt", "pyarrow": "parquet", "ray": "ray"}


def import_extra(name: str) -> Any:
    """Import a module of an optional package, or say which extra installs it."""
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EdgeaeError(
            f"{package} is not installed here ({error}); pip install 'edgeae-runtime[{_EXTRAS[package]}]'"
        ) from error
