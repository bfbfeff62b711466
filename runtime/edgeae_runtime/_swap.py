"""A new bundle, or a new threshold, put in place while a watch is running."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ._bundle import Bundle
from ._engines import ENGINE_FORMATS
from ._errors import BundleError, EdgeaeError
from ._manifest import Manifest, Threshold, artifact_name, encode_manifest
from ._recalibrate import read_threshold, threshold_path
from ._verify import verify

if TYPE_CHECKING:
    from ._autoencoder import Autoencoder

POLL_SECONDS = 1.0

Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and time of change (ns) of the files."""


def digest(manifest: Manifest) -> str:
    """Return what tells one bundle from another."""
    return hashlib.sha256(encode_manifest(manifest)).hexdigest()


def open_threshold(path: Path, autoencoder: "Autoencoder") -> Threshold:
    """Return the recalibrated threshold that lies beside the bundle, else the bundle's own.

    Raises:
        BundleError: the file is damaged.
    """
    artifact = artifact_name("scorer", autoencoder.precision, ENGINE_FORMATS[autoencoder.engine])
    return read_threshold(path, artifact) or autoencoder.threshold


class Poll(threading.Thread):
    """Looks each second whether bundle or threshold has changed, and opens and verifies what is new.

    A folder that is copied over file by file is looked at when nothing about it has changed for a second.
    """

    def __init__(
        self,
        path: Path,
        autoencoder: "Autoencoder",
        *,
        load: Callable[[Path], "Autoencoder"],
        accept: Callable[["Autoencoder", Threshold], object],
        refuse: Callable[[str], object],
    ) -> None:
        """See `start`.

        Args:
            path: the bundle.
            autoencoder: what runs now.
            load: opens a bundle and runs it once, so that nothing of it is left to be read later.
            accept: is told what to run from now on.
            refuse: is told in a line why something is not used.
        """
        super().__init__(name="bundle", daemon=True)
        self._path, self._current, self._load = path, autoencoder, load
        self._accept, self._refuse = accept, refuse
        self._bundle_seen = _signature(path)
        self._threshold_seen = _signature(threshold_path(path))
        self._stopping = threading.Event()

    def run(self) -> None:
        """Look until `stop`."""
        before = self._bundle_seen, self._threshold_seen
        while not self._stopping.wait(POLL_SECONDS):
            now = _signature(self._path), _signature(threshold_path(self._path))
            if now == before and now != (self._bundle_seen, self._threshold_seen) and now[0]:
                self._look(now[0] != self._bundle_seen)
                self._bundle_seen, self._threshold_seen = now
            before = now

    def stop(self) -> None:
        """Stop looking."""
        self._stopping.set()

    def _look(self, is_new_bundle: bool) -> None:
        try:
            if is_new_bundle:
                self._current = self._open(Bundle(self._path))
            self._accept(self._current, open_threshold(self._path, self._current))
        except EdgeaeError as error:
            self._refuse(str(error))
        except Exception as error:  # whatever a broken file does, what runs goes on
            self._refuse(f"{self._path}: {type(error).__name__}: {error}")

    def _open(self, bundle: Bundle) -> "Autoencoder":
        old, new = self._current.manifest.input, bundle.manifest.input
        for name in ("shape", "features", "window", "stride"):
            if getattr(old, name) != getattr(new, name):
                raise BundleError(
                    f"{self._path}: its {name} is {getattr(new, name)}, that of the running one "
                    f"{getattr(old, name)}; restart to change what goes in"
                )
        failed = [check for check in verify(bundle) if check.status == "failed"]
        if failed:
            raise BundleError(f"{self._path}: {failed[0].artifact}: {failed[0].detail}")
        if digest(bundle.manifest) == digest(self._current.manifest):
            return self._current
        fresh = self._load(self._path)
        if digest(fresh.manifest) != digest(bundle.manifest):
            raise BundleError(f"{self._path}: changed while it was verified")
        return fresh


def _signature(path: Path) -> Signature:
    """Return what changes when a file, or one in a folder, is written or replaced; empty where none is."""
    try:
        files = sorted(os.scandir(path), key=lambda entry: entry.name) if os.path.isdir(path) else [path]
        found = [(os.path.basename(file), os.stat(file)) for file in files]
    except OSError:
        return ()
    return tuple((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in found)
