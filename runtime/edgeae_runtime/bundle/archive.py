"""A bundle: a folder ``NAME.edgeae/`` or one uncompressed zip file."""

import hashlib
import os
from typing import TYPE_CHECKING

from ..errors import BundleError
from ..names import MANIFEST_NAME, SEAL_NAME
from .codec import decode_manifest
from .container import SizeError, is_zip, read_member
from .manifest import Artifact, Manifest
from .manifest_check import check_manifest, is_sha256

if TYPE_CHECKING:
    from pathlib import Path

MAX_MANIFEST = 2**24
MAX_FILE = 2**26
"""Most bytes of a file whose size the manifest does not tell, such as the golden inputs and outputs."""
MAX_SEAL = 1000


class Bundle:
    """A bundle's manifest and its files, each checked against its recorded hash when it is read."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read and validate the manifest; nothing else is read yet.

        Raises:
            BundleError: no bundle there, or its manifest is missing, not valid or of a newer format.
        """
        # Not a Path: importing pathlib takes longer than all of this package, and no engine needs it.
        self._where = path = os.fsdecode(path).rstrip("/") or os.fsdecode(path)
        if not os.path.lexists(path):
            from ..files import recover  # not needed for one that is there

            recover(self.path)
        if not os.path.exists(path):
            raise BundleError(f"{path}: no such bundle; make one with `edgeae export` or copy it here")
        if not os.path.isdir(path) and not is_zip(path):
            raise BundleError(
                f"{path}: is neither a bundle's folder nor a zip file (truncated?); copy it again"
            )
        content = self._read(MANIFEST_NAME, MAX_MANIFEST)
        self.digest: str = hashlib.sha256(content).hexdigest()
        """The SHA-256 of the manifest's bytes, fields that this runtime does not know included: it names
        this bundle wherever something is kept for it."""
        self.sealed: bool = self._check_seal(content)
        """Whether a digest of the manifest lies beside it, and agrees; older exports made none."""
        self.manifest: Manifest = decode_manifest(content, path)
        try:
            check_manifest(self.manifest)
        except ValueError as error:
            raise BundleError(
                f"{path}: {MANIFEST_NAME} is not valid ({error}); export the bundle again"
            ) from None

    @property
    def path(self) -> "Path":
        """Where it is."""
        from pathlib import Path

        return Path(self._where)

    def __repr__(self) -> str:
        """Show where it is."""
        return f"{type(self).__name__}({self._where!r})"

    def __str__(self) -> str:
        """Return where it is, for messages."""
        return self._where

    def read_artifact(self, artifact: Artifact) -> bytes:
        """Return a model file's bytes.

        Raises:
            BundleError: it is missing, or its size or SHA-256 is not what the manifest says.
        """
        content = self._read(artifact.path, artifact.bytes, exact=True)
        return self._checked(artifact.path, content, artifact.sha256)

    def read_file(self, name: str) -> bytes:
        """Return the bytes of a file that is no artifact, such as the golden inputs and outputs.

        Raises:
            BundleError: the manifest does not list it, it is missing, or its SHA-256 is another.
        """
        if name not in self.manifest.files:
            raise BundleError(f"{self._where}: the manifest does not list {name}; export the bundle again")
        return self._checked(name, self._read(name, MAX_FILE), self.manifest.files[name])

    def _check_seal(self, manifest: bytes) -> bool:
        try:
            found = read_member(self._where, SEAL_NAME, limit=MAX_SEAL)
        except (FileNotFoundError, KeyError):
            return False
        except Exception as error:  # as in _read
            raise self._unreadable(SEAL_NAME, error) from error
        expected = found[:64].decode("ascii", "replace")
        if not is_sha256(expected):
            raise self._unreadable(SEAL_NAME, "it does not begin with a SHA-256")
        self._checked(MANIFEST_NAME, manifest, expected, SEAL_NAME)
        return True

    def _read(self, name: str, limit: int, *, exact: bool = False) -> bytes:
        try:
            return read_member(self._where, name, limit=limit, exact=exact)
        except (FileNotFoundError, KeyError):
            raise BundleError(f"{self._where}: {name} is missing; copy the whole bundle again") from None
        except SizeError as error:
            expected = f"the manifest says {limit}" if exact else f"at most {limit} are allowed"
            raise BundleError(
                f"{self._where}: {name} has {error.size} bytes, {expected}; copy the bundle again"
            ) from None
        except Exception as error:  # on damaged files zipfile and zlib raise a dozen unrelated types
            raise self._unreadable(name, error) from error

    def _unreadable(self, name: str, error: object) -> BundleError:
        return BundleError(f"{self._where}: {name} cannot be read ({error}); copy the bundle again")

    def _checked(self, name: str, content: bytes, expected: str, says: str = "the manifest") -> bytes:
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise BundleError(
                f"{self._where}: {name} was altered (SHA-256 {found[:12]}…, {says} says {expected[:12]}…); "
                "copy the bundle again"
            )
        return content
