"""Every error that edgeae raises on purpose, and its warning."""

from collections.abc import Mapping
from typing import Any


class Argument:
    """An argument that a message speaks of: in Python ``window=60``, on the command line ``--window 60``.

    Args:
        name: the argument's, as in Python.
        value: what to give it; None speaks of the argument alone.
    """

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: Any = None) -> None:
        """Take the argument's name, and what it is to be."""
        self.name, self.value = name, value

    def __str__(self) -> str:
        """Return it as it is written in Python."""
        return self.name if self.value is None else f"{self.name}={self.value!r}"

    def spelled(self, options: Mapping[str, str]) -> str:
        """Return it as the option that ``options`` (argument to option) has for it, else as in Python."""
        option = options.get(self.name)
        if option is None:
            return str(self)
        return option if self.value is None or self.value is True else f"{option} {self.value}"


class Message:
    """A message in parts that are joined without anything between them: texts, `Argument`, other messages."""

    args: tuple[Any, ...]

    def __str__(self) -> str:
        """Return it as it is written in Python."""
        return self.spelled({})

    def spelled(self, options: Mapping[str, str]) -> str:
        """Return the message with each argument as the option that ``options`` has for it."""
        return "".join(
            part.spelled(options) if isinstance(part, Argument | Message) else str(part) for part in self.args
        )


class EdgeaeError(Message, Exception):
    """Base of all errors that a user can act on; the command line prints its message as one line.

    A message that names arguments of the library is given in parts, so that a command can name its options:
    ``EdgeaeError("too long; leave out ", Argument("window"))``.

    ::

        Exception
          EdgeaeError
            BundleError         a bundle cannot be read
            DataError           the input data cannot be used
            EngineError         an engine is missing or cannot run a model
            FidelityError       an artifact is too far from its reference
            OutputError         a result cannot be written
            RuleError           no such rule for a threshold
            SettingsError       settings that cannot be, or do not go together; a ValueError too
            ModelError          (export) a model cannot be read, split or converted
            RecipeError         (export) no such way to quantize
            RunError            (export, training) a run folder cannot be read
            ResumeError         (training) a checkpoint cannot be continued
            TrainingError       (training) the loss is no number any more
        UserWarning
          EdgeaeWarning         it works, but is probably not what is wanted

    Those without a remark are of `edgeae_runtime`, those of the export of `edgeae_export`; `edgeae` has all.
    """

    exit_status: int = 1
    """Exit status of the command line."""


class DataError(EdgeaeError):
    """The input data cannot be used: unreadable file, wrong shape, text, NaN or infinity."""


class BundleError(EdgeaeError):
    """A bundle is missing, incomplete, altered, or of a format that this version cannot read."""


class EngineError(EdgeaeError):
    """An inference engine is not installed or cannot run an artifact."""


class OutputError(EdgeaeError):
    """A result cannot be written: the target exists already, or the disk refused it."""


class FidelityError(EdgeaeError):
    """An artifact's outputs differ from the reference by more than the limits allow (exit status 3)."""

    exit_status = 3


class EdgeaeWarning(Message, UserWarning):
    """Something works but is probably not what the user wants; the command line prints it as a line."""
