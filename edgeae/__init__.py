"""Train autoencoders for the edge and see what they learned."""

from typing import TYPE_CHECKING, Any

from edgeae_runtime import __version__

if TYPE_CHECKING:
    from ._data import load_data
    from ._estimator import Autoencoder
    from ._train import TrainConfig, Trained, train

__all__ = ["Autoencoder", "TrainConfig", "Trained", "__version__", "load_data", "train"]

_HOMES = {
    "Autoencoder": "_estimator",
    "TrainConfig": "_train",
    "Trained": "_train",
    "load_data": "_data",
    "train": "_train",
}


def __getattr__(name: str) -> Any:
    """Import on first use: TensorFlow takes seconds, and ``edgeae --help`` must not wait for it."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
