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
        SettingsError,
    )

    from .config import Loss, NoiseKind, Objective, ScalerKind, Sparsity, TrainConfig
    from .data.dataset import Data
    from .data.load import load_data
    from .estimator.estimator import Autoencoder
    from .evaluation.evaluate import evaluate
    from .evaluation.figures import Evaluation
    from .evaluation.ground_truth import Samples
    from .evaluation.measures.detection import Detected, Found
    from .evaluation.measures.downstream import Downstream, Usefulness
    from .evaluation.measures.error import Compression, ErrorFigures
    from .evaluation.measures.robustness import Curve
    from .models.architectures import Arch
    from .report.report import write_report
    from .training.partial import ResumeError
    from .training.run import Trained
    from .training.train import TrainingError, train

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
    ".config": ("Loss", "NoiseKind", "Objective", "ScalerKind", "Sparsity", "TrainConfig"),
    ".data.dataset": ("Data",),
    ".data.load": ("load_data",),
    ".estimator.estimator": ("Autoencoder",),
    ".evaluation.measures.detection": ("Detected", "Found"),
    ".evaluation.measures.downstream": ("Downstream", "Usefulness"),
    ".evaluation.evaluate": ("evaluate",),
    ".evaluation.figures": ("Evaluation",),
    ".evaluation.measures.error": ("Compression", "ErrorFigures"),
    ".evaluation.ground_truth": ("Samples",),
    ".evaluation.measures.robustness": ("Curve",),
    ".models.architectures": ("Arch",),
    ".report.report": ("write_report",),
    ".training.partial": ("ResumeError",),
    ".training.run": ("Trained",),
    ".training.train": ("TrainingError", "train"),
    "edgeae_export": ("ModelError", "RecipeError", "RuleError", "RunError"),
    "edgeae_runtime": (
        "BundleError",
        "DataError",
        "EdgeaeError",
        "EdgeaeWarning",
        "EngineError",
        "FidelityError",
        "OutputError",
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
