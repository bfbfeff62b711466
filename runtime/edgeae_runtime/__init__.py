"""Run autoencoders from an edgeae bundle: embeddings and reconstruction errors on a small CPU.

>>> import edgeae_runtime
>>> ae = edgeae_runtime.load("pump.edgeae")            # doctest: +SKIP
>>> error, anomaly, embedding, threshold = ae.detect(reading)   # doctest: +SKIP
"""

from ._autoencoder import Autoencoder, Detection, load
from ._bundle import Bundle
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
from ._verify import Check, verify
from ._windows import windows

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "Autoencoder",
    "Bundle",
    "BundleError",
    "Check",
    "DataError",
    "Detection",
    "EdgeaeError",
    "EngineError",
    "Fidelity",
    "FidelityError",
    "Input",
    "Manifest",
    "OutputError",
    "Recipe",
    "Scaler",
    "Threshold",
    "Trial",
    "__version__",
    "load",
    "reconstruction_error",
    "verify",
    "windows",
]
