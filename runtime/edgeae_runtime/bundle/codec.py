"""The bytes of ``manifest.json``: written in the format that a manifest has, read in any that is known."""

import msgspec

from ..errors import BundleError
from ..names import MANIFEST_NAME, VERSION
from .manifest import Manifest

FORMAT_VERSION = 2
"""The newest bundle format that this runtime reads; format 1 has a reader of its own."""

NEEDS_RUNTIME = "0.1.0"
"""The first edgeae-runtime that reads this format."""


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json``, in the format that the manifest has."""
    if manifest.format_version == 1:
        from .format1 import as_format1  # seldom needed, as below

        return _encode(as_format1(manifest))
    return _encode(manifest)


def _encode(record: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


class _Version(msgspec.Struct):
    format_version: int
    needs_runtime: str | None = None


def decode_manifest(content: bytes, where: str) -> Manifest:
    """Read the bytes of ``manifest.json``; errors call the bundle ``where``.

    Optional fields that this runtime does not know are ignored, but for format 1, which has none.

    Raises:
        BundleError: not JSON, of a newer format, or a field is missing or of a wrong type.
    """
    try:
        found = msgspec.json.decode(content, type=_Version)
        if found.format_version > FORMAT_VERSION:
            raise BundleError(f"{where}: {_newer(found)}")
        if found.format_version == 1:
            from .format1 import read_format1

            return read_format1(content)
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BundleError(
            f"{where}: {MANIFEST_NAME} is not valid ({error}); copy the bundle again"
        ) from error


def _newer(found: _Version) -> str:
    needs = found.needs_runtime or ""
    reads = f", but this runtime reads up to {FORMAT_VERSION}"
    if needs.replace(".", "").isalnum() and needs.isascii() and len(needs) < 20:
        reads = f" needs edgeae-runtime {needs} or newer, and this is {VERSION}"
    return (
        f"bundle format {found.format_version}{reads}; "
        "update it (pip install --upgrade edgeae-runtime) or export again with an older edgeae"
    )
