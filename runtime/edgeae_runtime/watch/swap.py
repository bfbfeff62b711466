"""Bundles and thresholds that are replaced while a watch runs."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundle.archive import Bundle
from ..bundle.manifest import Threshold
from ..bundle.recalibration import read_threshold, threshold_path
from ..errors import BundleError, EdgeaeError
from .events import Post, Refused, Swapped
from .sandbox import Sandbox

if TYPE_CHECKING:
    from ..autoencoder import Autoencoder

POLL_SECONDS = 1.0

Signature = tuple[list[tuple[object, ...]], ...]


def open_threshold(path: Path, autoencoder: "Autoencoder") -> Threshold:
    """Return the recalibrated threshold that lies beside the bundle, else the bundle's own.

    Raises:
        BundleError: the file is damaged.
    """
    return read_threshold(path, autoencoder.artifact, autoencoder.digest) or autoencoder.threshold


def poll(
    path: Path,
    current: "Autoencoder",
    seen: Signature,
    *,
    load: Callable[[Path], "Autoencoder"],
    threshold: Callable[["Autoencoder"], float | Threshold],
    post: Post,
    stop: threading.Event,
    sandbox: Sandbox = Sandbox(),  # noqa: B008  # a named tuple
) -> None:
    """Look each second whether bundle or threshold has changed; open and verify what is new.

    A folder that is copied over file by file is looked at when nothing about it has changed for a second.

    ``seen`` is the `signature` before ``current`` was opened. ``load`` opens a bundle and runs it once, so
    that nothing of it is left to be read later, but only once ``sandbox`` has found it good. ``post`` gets
    what is to run from now on, or why not.
    """
    before = seen
    while not stop.wait(POLL_SECONDS):
        now = signature(path)
        if now == before != seen and now[0]:
            try:
                if now[0] != seen[0]:
                    digest = sandbox.verify(path, stop)
                    if digest is None:
                        return
                    current = _open(path, digest, current, load)
                post(Swapped(current, threshold(current)))
            except EdgeaeError as error:
                post(Refused(error))
            except Exception as error:  # whatever a broken file does, what runs goes on
                post(Refused(BundleError(f"{path}: {type(error).__name__}: {error}")))
            seen = now
        before = now


def _open(
    path: Path, digest: str, current: "Autoencoder", load: Callable[[Path], "Autoencoder"]
) -> "Autoencoder":
    """Open the verified bundle whose manifest has this digest; nothing is made of the running one."""
    fresh = current
    if digest != current.digest:
        if Bundle(path).digest == digest:  # nothing of another one is run
            fresh = load(path)
        if fresh.digest != digest:
            raise BundleError(f"{path}: changed while it was verified")
    old, new = current.manifest.input, fresh.manifest.input
    for name in ("shape", "features", "window", "stride"):
        if getattr(old, name) != getattr(new, name):
            raise BundleError(
                f"{path}: its {name} is {getattr(new, name)}, that of the running one "
                f"{getattr(old, name)}; restart to change what goes in"
            )
    return fresh


def signature(path: Path) -> Signature:
    """Return what changes when a bundle or its threshold is written or replaced; each empty where none is."""
    return _signature(path), _signature(threshold_path(path))


def _signature(path: Path) -> list[tuple[object, ...]]:
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found = [(file.name, file.stat()) for file in files]
    except OSError:
        return []
    return [(name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in found]
