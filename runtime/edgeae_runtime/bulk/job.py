"""What a run over many rows is, so that workers and a later run can know it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from ..bundle.manifest import Input
from ..engines.registry import EngineName
from ..names import Precision
from ..readers.source import is_standard_input

Command: TypeAlias = Literal["embed", "score"]


class BulkRun(msgspec.Struct, frozen=True):
    """Everything besides the input that determines the bytes of a result."""

    command: Command
    bundle: str
    """SHA-256 of its manifest, which has those of its files."""
    engine: EngineName
    precision: Precision
    versions: dict[str, str]
    suffix: str


Record: TypeAlias = tuple[BulkRun, str, int, int, int]
"""With the input's path, size, time of change and inode."""


@dataclass(frozen=True)
class Job:
    """A run over one or more files, as it is sent to a worker."""

    bundle: Path
    input: Input
    run: BulkRun

    def record(self, path: Path) -> bytes:
        """Return bytes that identify this run over this input as it is now; standard input never is again."""
        name = os.fsencode(os.path.abspath(path)).decode(errors="backslashreplace")
        found = path.stat() if os.path.isfile(path) else None  # Path.is_file may raise
        state = (found.st_size, found.st_mtime_ns, found.st_ino) if found else (0, 0, 0)
        if is_standard_input(path):
            name, state = str(path), (0, time.time_ns(), os.getpid())
        return msgspec.json.encode((self.run, name, *state))
