"""TLS, and secrets from files: what no message may show."""

import ssl
from pathlib import Path

from ...errors import DataError


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that verifies certificates: by the system's authorities, or by those of a PEM file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise DataError(
            f"{ca_file}: no certificates can be read ({reason(error)}); want a PEM file"
        ) from None


def read_secret(path: Path) -> str:
    """Return the text of a file without the end of its last line.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from None


def reason(error: BaseException | None) -> str:
    """Return what an error of the network, TLS or a file says, without its numbers."""
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", "") or error.reason or str(error)
    return getattr(error, "strerror", "") or str(error)
