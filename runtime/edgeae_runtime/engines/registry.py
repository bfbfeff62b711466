"""The engines by name: what each reads, the module that it needs, and how it is loaded."""

import sys

from ..errors import EngineError
from ..names import Role
from .base import Engine, one_line

ENGINE_MODULES = {"onnxruntime": "onnxruntime", "litert": "ai_edge_litert"}


def load_engine(name: str, content: bytes, role: Role, threads: int, *, arena: bool = True) -> Engine:
    """Load an artifact into the engine called ``name``; see `ENGINE_FORMATS`.

    ``threads`` calls may run at once, or share the rows of one. With ``arena`` ONNX Runtime may keep memory
    between calls; LiteRT knows beforehand what it needs.

    Raises:
        EngineError: the engine is not installed, or it does not accept the artifact.
    """
    try:
        if name == "litert":
            from .litert import LiteRT

            return LiteRT(content, role, threads, arena)
        from .onnxruntime import OnnxRuntime

        return OnnxRuntime(content, role, threads, arena)
    except ImportError as error:
        remedy = f"pip install 'edgeae-runtime{'[litert]' * (name == 'litert')}'"
        if sys.maxsize < 2**32:
            remedy = "it has no wheels for a 32-bit system: use the 64-bit Raspberry Pi OS (Pi 3 and later)"
        raise EngineError(f"{name} is not installed here ({error}); {remedy}") from error
    except Exception as error:  # the engines raise types of their own, private ones among them
        raise EngineError(f"{name} cannot load the {role}: {one_line(error)}") from error
