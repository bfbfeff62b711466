"""Opening a bundle: a folder ``NAME.edgeae/`` or the same as one uncompressed zip file."""

import hashlib
import zipfile
from pathlib import Path

from ._errors import BundleError
from ._manifest import GOLDEN_NAME, MANIFEST_NAME, Artifact, Manifest, decode_manifest


class Bundle:
    """A bundle's manifest and its files, each checked against its recorded hash when it is read."""

    def __init__(self, path: Path) -> None:
        """Read and validate the manifest; nothing else is read yet.

        Raises:
            BundleError: no bundle there, or its manifest is missing, not valid or of a newer format.
        """
        self.path = path
        if not path.exists():
            raise BundleError(f"{path}: no such bundle; make one with `edgeae export` or copy it here")
        if not path.is_dir() and not zipfile.is_zipfile(path):
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

    def read_golden(self) -> bytes:
        """Return the bytes of the golden inputs and outputs; errors as for `read_artifact`."""
        content = self._read(GOLDEN_NAME)
        self._check(GOLDEN_NAME, content, self.manifest.files.get(GOLDEN_NAME, ""))
        return content

    def _read(self, name: str) -> bytes:
        try:
            if self.path.is_dir():
                return (self.path / name).read_bytes()
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(name)
        except (FileNotFoundError, KeyError):
            raise BundleError(f"{self.path}: {name} is missing; copy the whole bundle again") from None
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
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
