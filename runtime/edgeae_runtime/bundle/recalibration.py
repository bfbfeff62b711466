"""Recalibrated thresholds, from a while of the device's own normal operation.

They lie beside the bundle, never inside: the bundle stays what was exported and verified. They hold for the
manifest and the artifact that they were made with, since another artifact's errors are others.
"""

import hashlib
import os
import warnings
from pathlib import Path

import msgspec

from ..errors import BundleError, EdgeaeWarning
from .archive import Bundle
from .codec import encode_manifest
from .manifest import Manifest, Threshold


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's content."""

    manifest: str
    """SHA-256 of the manifest that the thresholds belong to."""
    thresholds: dict[str, Threshold]
    """By artifact, such as ``scorer.int8.onnx``."""


def threshold_path(bundle: str | os.PathLike[str]) -> Path:
    """Return the file beside a bundle that holds its recalibrated thresholds."""
    path = Path(bundle).absolute()
    return path.with_name(f"{path.name}.threshold.json")


def read_threshold(
    bundle: str | os.PathLike[str], artifact: str, manifest: Manifest | str | None = None
) -> Threshold | None:
    """Return the recalibrated threshold of an artifact, or None where there is none.

    Args:
        bundle: the bundle's path.
        artifact: the file in it, such as ``scorer.int8.onnx``.
        manifest: of what runs, or its digest, when that may not be the bundle there.

    Raises:
        BundleError: the bundle cannot be opened, or the file beside it is damaged.
        (warning) EdgeaeWarning: the file belongs to another bundle of that name, and is ignored.
    """
    kept = _read(bundle)
    if kept is None:
        return None
    if isinstance(manifest, Manifest):
        manifest = hashlib.sha256(encode_manifest(manifest)).hexdigest()
    if kept.manifest != (manifest or Bundle(Path(bundle)).digest):
        warnings.warn(
            f"{threshold_path(bundle)}: was made for another bundle, so the bundle's own threshold holds; "
            "run `edgeae recalibrate` again",
            EdgeaeWarning,
            stacklevel=2,
        )
        return None
    return kept.thresholds.get(artifact)


def write_threshold(bundle: str | os.PathLike[str], artifact: str, threshold: Threshold) -> Path:
    """Keep a threshold beside a bundle, and those that it has for other artifacts; return the file.

    Raises:
        BundleError: the bundle cannot be opened.
        OutputError: the disk refuses it; the file is as before.
    """
    found = Bundle(Path(bundle))
    if artifact not in [a.path for a in found.manifest.artifacts]:
        raise BundleError(f"{bundle}: has no {artifact}, so no threshold can be for it")
    try:
        kept = _read(bundle)
    except BundleError:  # damaged: replaced
        kept = None
    others = kept.thresholds if kept is not None and kept.manifest == found.digest else {}
    content = msgspec.json.encode(_Kept(found.digest, {**others, artifact: threshold}))
    path = threshold_path(bundle)
    from ..files import new_file  # which each start of a process does without

    with new_file(path) as file:
        file.write_bytes(msgspec.json.format(content, indent=2) + b"\n")
    return path


def _read(bundle: str | os.PathLike[str]) -> _Kept | None:
    path = threshold_path(bundle)
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise BundleError(
            f"{path}: cannot be read ({error}); remove it (edgeae recalibrate --reset) or recalibrate again"
        ) from error
