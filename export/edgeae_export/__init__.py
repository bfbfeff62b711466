"""Turn a Keras autoencoder into a bundle of quantized ONNX and TFLite files that are proven faithful."""

from typing import TYPE_CHECKING, Any

from edgeae_runtime import __version__

if TYPE_CHECKING:
    from ._export import export
    from ._gate import Limits

__all__ = ["Limits", "__version__", "export"]

_HOMES = {"Limits": "_gate", "export": "_export"}


def __getattr__(name: str) -> Any:
    """Import on first use: TensorFlow takes seconds, and ``edgeae --help`` must not wait for it."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
