"""Turn a Keras autoencoder into a bundle of quantized ONNX and TFLite files that are proven faithful.

What `dir` shows is public; the modules behind it are not. `EdgeaeError` shows all errors as a tree.
"""

from typing import TYPE_CHECKING, Any

from edgeae_runtime import __version__

if TYPE_CHECKING:
    from edgeae_runtime import (
        BundleError,
        DataError,
        EdgeaeError,
        EdgeaeWarning,
        EngineError,
        FidelityError,
        Format,
        Manifest,
        OutputError,
        Precision,
        RuleError,
        Scaler,
        SettingsError,
    )

    from .errors import ModelError, RecipeError, RunError
    from .fidelity.limits import DEFAULT_LIMITS, Limits
    from .pipeline import export
    from .source import Source

__all__ = [
    "DEFAULT_LIMITS",
    "BundleError",
    "DataError",
    "EdgeaeError",
    "EdgeaeWarning",
    "EngineError",
    "FidelityError",
    "Format",
    "Limits",
    "Manifest",
    "ModelError",
    "OutputError",
    "Precision",
    "RecipeError",
    "RuleError",
    "RunError",
    "Scaler",
    "SettingsError",
    "Source",
    "__version__",
    "export",
]

_HOMES = {
    ".errors": ("ModelError", "RecipeError", "RunError"),
    ".fidelity.limits": ("DEFAULT_LIMITS", "Limits"),
    ".pipeline": ("export",),
    ".source": ("Source",),
    "edgeae_runtime": (
        "BundleError",
        "DataError",
        "EdgeaeError",
        "EdgeaeWarning",
        "EngineError",
        "FidelityError",
        "Format",
        "Manifest",
        "OutputError",
        "Precision",
        "RuleError",
        "Scaler",
        "SettingsError",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # a type checker would take any name for one of these

    def __getattr__(name: str) -> Any:
        """Import on first use: TensorFlow takes seconds, and ``edgeae --help`` must not wait for it."""
        from importlib import import_module

        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOME[name], __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
