"""Run autoencoders from an edgeae bundle: embeddings and reconstruction errors on a small CPU.

>>> import edgeae_runtime
>>> ae = edgeae_runtime.load("pump.edgeae")            # doctest: +SKIP
>>> error, anomaly, embedding, threshold = ae.detect(reading)   # doctest: +SKIP
"""

import os
from typing import TYPE_CHECKING, Any

from ._alarm import Alarm, Drift, new_threshold, read_threshold, write_threshold
from ._autoencoder import Autoencoder, Detection, load
from ._bundle import Bundle, Check, verify
from ._errors import BundleError, DataError, EdgeaeError, EngineError, FidelityError, OutputError
from ._manifest import (
    Artifact,
    Fidelity,
    Input,
    Manifest,
    Recipe,
    Scaler,
    Threshold,
    Trial,
    reconstruction_error,
)

if TYPE_CHECKING:
    from ._stream import Stream, StreamResult
    from ._windows import windows

__version__ = "0.1.0"

# ONNX Runtime's Linux builds report to their maker once imported. The exporter and the trainer import this
# package before all else, nothing here imports an engine by itself, and child processes inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Alarm",
    "Artifact",
    "Autoencoder",
    "Bundle",
    "BundleError",
    "Check",
    "DataError",
    "Detection",
    "Drift",
    "EdgeaeError",
    "EngineError",
    "Fidelity",
    "FidelityError",
    "Input",
    "Manifest",
    "OutputError",
    "Recipe",
    "Scaler",
    "Stream",
    "StreamResult",
    "Threshold",
    "Trial",
    "__version__",
    "load",
    "new_threshold",
    "read_threshold",
    "reconstruction_error",
    "verify",
    "windows",
    "write_threshold",
]

_LATER = {
    "Stream": "_stream",
    "StreamResult": "_stream",
    "windows": "_windows",
}


def __getattr__(name: str) -> Any:
    """Import what a first score does without when it is asked for: on a device each start counts."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
