"""The engines, a record each; CONTRIBUTING.md says how to add one.

Commands name the engines in their options, so nothing here takes time to import.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from ..errors import EngineError
from ..names import Format, Precision, Role

if TYPE_CHECKING:
    from ..bundle.manifest import Artifact, Manifest
    from .base import Engine

EngineName: TypeAlias = Literal["auto", "onnxruntime", "litert", "openvino"]
"""What `load` takes; ``auto`` and the names of `ENGINES`."""


class EngineRecord(NamedTuple):
    """All that the rest of the house knows of an engine."""

    name: EngineName
    """Also of the module in this folder that drives it."""
    formats: tuple[Format, ...]
    """Formats of the files that it runs; where a bundle has several, the first is taken."""
    adapter: str
    """The subclass of `Engine` in that module."""
    package: str
    """The package that it needs, as Python imports it."""
    extra: str | None = None
    """The extra of edgeae-runtime that installs it; None where it always is."""

    @property
    def distribution(self) -> str:
        """The package's name for pip."""
        return self.package.replace("_", "-")

    def is_installed(self) -> bool:
        """Whether its package is there; nothing is imported."""
        from importlib.util import find_spec

        return find_spec(self.package) is not None

    def load(self) -> "type[Engine]":
        """Import the module that drives it, and return the `Engine` there; the package is not imported."""
        engine: type[Engine] = getattr(import_module(f".{self.name}", __package__), self.adapter)
        return engine

    def artifact(self, manifest: "Manifest", role: Role, precision: Precision) -> "Artifact | None":
        """Return the artifact of a bundle that this engine runs, or None."""
        found = (manifest.find(role, precision, file_format) for file_format in self.formats)
        return next(filter(None, found), None)


ENGINES = (
    EngineRecord("onnxruntime", ("onnx",), "OnnxRuntime", "onnxruntime"),
    EngineRecord("litert", ("tflite",), "LiteRT", "ai_edge_litert", "litert"),
    EngineRecord("openvino", ("onnx",), "OpenVino", "openvino", "openvino"),
)
"""In the order in which ``auto`` prefers them where nothing is measured.

The first one of a format is its reference: an export judges files with it, and takes their golden outputs.
"""


def find_engine(name: str) -> EngineRecord:
    """Return the record of an engine.

    Raises:
        KeyError: there is none of that name.
    """
    for record in ENGINES:
        if record.name == name:
            return record
    raise KeyError(name)


def engines_of(file_format: Format) -> tuple[EngineRecord, ...]:
    """Return the engines that run files of a format, its reference first; none for C sources."""
    return tuple(record for record in ENGINES if file_format in record.formats)


def engines_here() -> tuple[EngineRecord, ...]:
    """Return the references of all formats, which people expect to find, and others that are installed."""
    references = [engines_of(file_format)[0] for record in ENGINES for file_format in record.formats]
    return tuple(record for record in ENGINES if record in references or record.is_installed())


def load_engine(name: str, content: bytes, role: Role, threads: int, *, arena: bool = True) -> "Engine":
    """Load an artifact into the engine called ``name``; see `ENGINES`.

    ``threads`` calls may run at once, or share the rows of one. With ``arena`` ONNX Runtime may keep memory
    between calls; the others know beforehand what they need.

    Raises:
        EngineError: the engine is not installed, or it does not accept the artifact.
    """
    from .base import one_line

    record = find_engine(name)
    try:
        return record.load()(content, role, threads, arena)
    except ImportError as error:
        remedy = f"pip install 'edgeae-runtime{f'[{record.extra}]' if record.extra else ''}'"
        if sys.maxsize < 2**32:
            remedy = "it has no wheels for a 32-bit system: use the 64-bit Raspberry Pi OS (Pi 3 and later)"
        raise EngineError(f"{name} is not installed here ({error}); {remedy}") from error
    except Exception as error:  # the engines raise types of their own, private ones among them
        raise EngineError(f"{name} cannot load the {role}: {one_line(error)}") from error
