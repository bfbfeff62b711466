"""The engines, a record each; CONTRIBUTING.md says how to add one.

Commands name the engines in their options, so nothing here takes time to import.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from ..errors import EngineError
from ..names import Format, Precision, Role

if TYPE_CHECKING:
    from ..bundle.manifest import Artifact, Manifest
    from .base import Engine

EngineName: TypeAlias = Literal["auto", "onnxruntime", "litert"]
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
    """What has to be imported to run it."""
    extra: str | None = None
    """The extra of edgeae-runtime that installs it; None where it always is."""

    @property
    def distribution(self) -> str:
        """The package's name for pip."""
        return self.top_package.replace("_", "-")

    @property
    def top_package(self) -> str:
        """The package without the part of it that is imported."""
        return self.package.partition(".")[0]

    def is_installed(self) -> bool:
        """Whether its package is there; nothing is imported."""
        from importlib.util import find_spec

        return find_spec(self.top_package) is not None

    def import_package(self) -> Any:
        """Return its package's module.

        Raises:
            ImportError: it is not installed.
        """
        return import_module(self.package)

    def artifact(self, manifest: "Manifest", role: Role, precision: Precision) -> "Artifact | None":
        """Return the artifact of a bundle that this engine runs, or None."""
        found = (manifest.find(role, precision, file_format) for file_format in self.formats)
        return next(filter(None, found), None)


ENGINES = (
    EngineRecord("onnxruntime", ("onnx",), "OnnxRuntime", "onnxruntime"),
    EngineRecord("litert", ("tflite",), "LiteRT", "ai_edge_litert.interpreter", "litert"),
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
        adapter = getattr(import_module(f".{name}", __package__), record.adapter)
        engine: Engine = adapter(content, role, threads, arena)
        return engine
    except ImportError as error:
        remedy = f"pip install 'edgeae-runtime{f'[{record.extra}]' if record.extra else ''}'"
        if sys.maxsize < 2**32:
            remedy = "it has no wheels for a 32-bit system: use the 64-bit Raspberry Pi OS (Pi 3 and later)"
        raise EngineError(f"{name} is not installed here ({error}); {remedy}") from error
    except Exception as error:  # the engines raise types of their own, private ones among them
        raise EngineError(f"{name} cannot load the {role}: {one_line(error)}") from error
