"""Every error that edgeae raises on purpose.

::

    EdgeaeError            a user can act on it; the command line prints it as one line
    ├── DataError          the numbers handed in: shape, type, NaN, a file that cannot be read
    ├── BundleError        the bundle: missing, truncated, altered, newer than this runtime
    ├── EngineError        the inference engine: not installed, or it failed on an artifact
    ├── OutputError        where a result should go: exists already, cannot be written
    └── FidelityError      an artifact does not say what the float model says (exit status 3)
"""


class EdgeaeError(Exception):
    """Base of all errors that a user can act on.

    The message says what was expected, what was found, where, and the remedy. ``exit_status`` is
    what the command line exits with.
    """

    exit_status: int = 1


class DataError(EdgeaeError):
    """The input data cannot be used: unreadable file, wrong shape, text, NaN or infinity."""


class BundleError(EdgeaeError):
    """A bundle is missing, incomplete, altered, or of a format that this version cannot read."""


class EngineError(EdgeaeError):
    """An inference engine is not installed or cannot run an artifact."""


class OutputError(EdgeaeError):
    """A result cannot be written: the target exists already, or the disk refused it."""


class FidelityError(EdgeaeError):
    """An artifact's outputs differ from the reference by more than the limits allow."""

    exit_status = 3


class EdgeaeWarning(UserWarning):
    """Something works but is probably not what the user wants; the command line prints it as a line."""
