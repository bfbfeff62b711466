"""Train autoencoders for the edge and see what they learned.

What `dir` shows is public; the modules behind it are not. `EdgeaeError` shows all errors as a tree.
"""

from typing import TYPE_CHECKING, Any

from edgeae_runtime import __version__

if TYPE_CHECKING:
    from edgeae_export import ModelError, RecipeError, RuleError, RunError
    from edgeae_runtime import (
        BundleError,
        DataError,
        EdgeaeError,
        EdgeaeWarning,
        EngineError,
        FidelityError,
        OutputError,
    )

    from ._config import Arch, Loss, NoiseKind, Objective, ScalerKind, SettingsError, Sparsity, TrainConfig
    from ._data import load_data
    from ._dataset import Data
    from ._detection import Detected, Found
    from ._downstream import Downstream, Usefulness
    from ._estimator import Autoencoder
    from ._evaluate import Samples, evaluate
    from ._figures import Compression, ErrorFigures, Evaluation
    from ._partial import ResumeError
    from ._report import write_report
    from ._robustness import Curve
    from ._train import Trained, TrainingError, train

__all__ = [
    "Arch",
    "Autoencoder",
    "BundleError",
    "Compression",
    "Curve",
    "Data",
    "DataError",
    "Detected",
    "Downstream",
    "EdgeaeError",
    "EdgeaeWarning",
    "EngineError",
    "ErrorFigures",
    "Evaluation",
    "FidelityError",
    "Found",
    "Loss",
    "ModelError",
    "NoiseKind",
    "Objective",
    "OutputError",
    "RecipeError",
    "ResumeError",
    "RuleError",
    "RunError",
    "Samples",
    "ScalerKind",
    "SettingsError",
    "Sparsity",
    "TrainConfig",
    "Trained",
    "TrainingError",
    "Usefulness",
    "__version__",
    "evaluate",
    "load_data",
    "train",
    "write_report",
]

_HOMES = {
    "edgeae_runtime": (
        "BundleError",
        "DataError",
        "EdgeaeError",
        "EdgeaeWarning",
        "EngineError",
        "FidelityError",
        "OutputError",
    ),
    "edgeae_export": ("ModelError", "RecipeError", "RuleError", "RunError"),
    "._config": (
        "Arch",
        "Loss",
        "NoiseKind",
        "Objective",
        "ScalerKind",
        "SettingsError",
        "Sparsity",
        "TrainConfig",
    ),
    "._data": ("load_data",),
    "._dataset": ("Data",),
    "._detection": ("Detected", "Found"),
    "._downstream": ("Downstream", "Usefulness"),
    "._estimator": ("Autoencoder",),
    "._evaluate": ("Samples", "evaluate"),
    "._figures": ("Compression", "ErrorFigures", "Evaluation"),
    "._partial": ("ResumeError",),
    "._report": ("write_report",),
    "._robustness": ("Curve",),
    "._train": ("Trained", "TrainingError", "train"),
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
