"""Run autoencoders from an edgeae bundle: embeddings and reconstruction errors on a small CPU.

>>> import edgeae_runtime
>>> ae = edgeae_runtime.load("pump.edgeae")            # doctest: +SKIP
>>> error, anomaly, embedding, threshold = ae.detect(reading)   # doctest: +SKIP

What `dir` shows is public; the modules behind it are not. `EdgeaeError` shows all errors as a tree.
"""

import os
from typing import TYPE_CHECKING, Any

from .names import VERSION

if TYPE_CHECKING:
    from . import udf, watch
    from .autoencoder import Autoencoder, Detector, load
    from .bundle.archive import Bundle
    from .bundle.formulas import reconstruction_error
    from .bundle.manifest import Artifact, Fidelity, Floats, Input, Manifest, Recipe, Scaler, Threshold, Trial
    from .bundle.recalibration import read_threshold, write_threshold
    from .bundle.thresholds import RuleError, new_threshold
    from .engines.golden import Check, verify
    from .engines.registry import EngineName
    from .errors import (
        BundleError,
        DataError,
        EdgeaeError,
        EdgeaeWarning,
        EngineError,
        FidelityError,
        OutputError,
    )
    from .names import Format, Precision, PrecisionName, Role
    from .series.windows import windows
    from .settings import SettingsError
    from .streams.alarm import Alarm
    from .streams.detector import Detection
    from .streams.drift import Drift
    from .streams.result import StreamResult
    from .streams.stream import Stream

__version__ = VERSION

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
    "Detector",
    "Drift",
    "EdgeaeError",
    "EdgeaeWarning",
    "EngineError",
    "EngineName",
    "Fidelity",
    "FidelityError",
    "Floats",
    "Format",
    "Input",
    "Manifest",
    "OutputError",
    "Precision",
    "PrecisionName",
    "Recipe",
    "Role",
    "RuleError",
    "Scaler",
    "SettingsError",
    "Stream",
    "StreamResult",
    "Threshold",
    "Trial",
    "__version__",
    "load",
    "new_threshold",
    "read_threshold",
    "reconstruction_error",
    "udf",
    "verify",
    "watch",
    "windows",
    "write_threshold",
]

_HOMES = {
    "autoencoder": ("Autoencoder", "Detector", "load"),
    "bundle.archive": ("Bundle",),
    "bundle.formulas": ("reconstruction_error",),
    "bundle.manifest": (
        "Artifact",
        "Fidelity",
        "Floats",
        "Input",
        "Manifest",
        "Recipe",
        "Scaler",
        "Threshold",
        "Trial",
    ),
    "bundle.recalibration": ("read_threshold", "write_threshold"),
    "bundle.thresholds": ("RuleError", "new_threshold"),
    "engines.golden": ("Check", "verify"),
    "engines.registry": ("EngineName",),
    "errors": (
        "BundleError",
        "DataError",
        "EdgeaeError",
        "EdgeaeWarning",
        "EngineError",
        "FidelityError",
        "OutputError",
    ),
    "names": ("Format", "Precision", "PrecisionName", "Role"),
    "series.windows": ("windows",),
    "settings": ("SettingsError",),
    "streams.alarm": ("Alarm",),
    "streams.detector": ("Detection",),
    "streams.drift": ("Drift",),
    "streams.result": ("StreamResult",),
    "streams.stream": ("Stream",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # a type checker would take any name for one of these

    def __getattr__(name: str) -> Any:
        """Import on first use: a first score needs few of them, and ``edgeae --help`` not even numpy."""
        from importlib import import_module

        if name in ("udf", "watch"):
            return import_module(f".{name}", __name__)
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
