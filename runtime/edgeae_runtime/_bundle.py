"""Opening a bundle: a folder ``NAME.edgeae/`` or the same as one uncompressed zip file."""

import hashlib
import os
from pathlib import Path

from ._errors import BundleError
from ._manifest import MANIFEST_NAME, Artifact, Manifest, decode_manifest


class Bundle:
    """A bundle's manifest and its files, each checked against its recorded hash when it is read."""

    def __init__(self, path: Path) -> None:
        """Read and validate the manifest; nothing else is read yet.

        Raises:
            BundleError: no bundle there, or its manifest is missing, not valid or of a newer format.
        """
        self.path = path
        if not os.path.exists(path):  # unlike Path's, no error where the name itself is refused
            raise BundleError(f"{path}: no such bundle; make one with `edgeae export` or copy it here")
        if not path.is_dir():
            from zipfile import is_zipfile  # not needed for a folder

            if not is_zipfile(path):
                raise BundleError(
                    f"{path}: is neither a bundle's folder nor a zip file (truncated?); copy it again"
                )
        self.manifest: Manifest = decode_manifest(self._read(MANIFEST_NAME), str(path))

    def read_artifact(self, artifact: Artifact) -> bytes:
        """Return a model file's bytes.

        Raises:
            BundleError: it is missing, or its size or SHA-256 is not what the manifest says.
        """
        content = self._read(artifact.path)
        if len(content) != artifact.bytes:
            raise BundleError(
                f"{self.path}: {artifact.path} has {len(content)} bytes, the manifest says {artifact.bytes}; "
                "copy the bundle again"
            )
        self._check(artifact.path, content, artifact.sha256)
        return content

    def read_file(self, name: str) -> bytes:
        """Return the bytes of a file that is no artifact, such as the golden inputs and outputs.

        Raises:
            BundleError: the manifest does not list it, it is missing, or its SHA-256 is another.
        """
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: the manifest does not list {name}; export the bundle again")
        content = self._read(name)
        self._check(name, content, self.manifest.files[name])
        return content

    def _read(self, name: str) -> bytes:
        try:
            if self.path.is_dir():
                return (self.path / name).read_bytes()
            from zipfile import ZipFile

            with ZipFile(self.path) as archive:
                return archive.read(name)
        except (FileNotFoundError, KeyError):
            raise BundleError(f"{self.path}: {name} is missing; copy the whole bundle again") from None
        except Exception as error:  # on damaged files zipfile and zlib raise a dozen unrelated types
            raise BundleError(
                f"{self.path}: {name} cannot be read ({error}); copy the bundle again"
            ) from error

    def _check(self, name: str, content: bytes, expected: str) -> None:
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise BundleError(
                f"{self.path}: {name} was altered (SHA-256 {found[:12]}…, the manifest says {expected[:12]}…)"
                "; copy the bundle again"
            )
