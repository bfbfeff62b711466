"""A threshold for this very device, from a while of its own normal operation.

It lies beside the bundle, never inside: the bundle stays what was exported and verified. It holds for the
manifest and the artifact that it was made with, since another artifact's errors are others.
"""

import hashlib
import os
import warnings
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from ._bundle import Bundle
from ._errors import BundleError, DataError, EdgeaeWarning
from ._files import new_file
from ._manifest import Manifest, Threshold, encode_manifest

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)
"""Those of the error that a `Threshold` keeps."""
FEWEST = 20
"""Windows below which their quantiles mean nothing."""


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's content."""

    manifest: str
    """SHA-256 of the manifest that the thresholds belong to."""
    thresholds: dict[str, Threshold]
    """By artifact, such as ``scorer.int8.onnx``."""


def new_threshold(errors: ArrayLike, *, quantile: float = 0.99) -> Threshold:
    """Return the threshold that a share of normal windows stays below.

    Args:
        errors: of windows in normal operation, (n,), as `Autoencoder.score` or a stream gives them.
        quantile: that share, above 0 and at most 1.

    Raises:
        DataError: fewer than `FEWEST` errors, one that is not finite, or a quantile out of range.
    """
    values = np.asarray(errors, np.float64).reshape(-1)
    if not 0 < quantile <= 1:
        raise DataError(f"quantile is {quantile:g}; want above 0 and at most 1, such as 0.99")
    if len(values) < FEWEST:
        raise DataError(
            f"{len(values)} windows of normal operation are too few for a threshold; "
            f"want at least {FEWEST}, better some thousands"
        )
    if not np.isfinite(values).all():
        raise DataError("an error is not finite; leave out the readings that it comes from")
    return Threshold(
        rule=f"quantile:{quantile:g}",
        value=float(np.quantile(values, quantile)),
        rows=len(values),
        quantiles={str(q): float(np.quantile(values, q)) for q in QUANTILES},
    )


def threshold_path(bundle: str | os.PathLike[str]) -> Path:
    """Return the file beside a bundle that holds its recalibrated thresholds."""
    path = Path(bundle).absolute()
    return path.with_name(f"{path.name}.threshold.json")


def read_threshold(bundle: str | os.PathLike[str], artifact: str) -> Threshold | None:
    """Return the recalibrated threshold of an artifact, or None where there is none.

    Args:
        bundle: the bundle's path.
        artifact: the file in it, such as ``scorer.int8.onnx``.

    Raises:
        BundleError: the bundle cannot be opened, or the file beside it is damaged.
        (warning) EdgeaeWarning: the file belongs to another bundle of that name, and is ignored.
    """
    kept = _read(bundle)
    if kept is None:
        return None
    if kept.manifest != _digest(Bundle(Path(bundle)).manifest):
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
    manifest = Bundle(Path(bundle)).manifest
    if artifact not in [a.path for a in manifest.artifacts]:
        raise BundleError(f"{bundle}: has no {artifact}, so no threshold can be for it")
    digest = _digest(manifest)
    try:
        kept = _read(bundle)
    except BundleError:  # damaged: replaced
        kept = None
    others = kept.thresholds if kept is not None and kept.manifest == digest else {}
    content = msgspec.json.encode(_Kept(digest, {**others, artifact: threshold}))
    path = threshold_path(bundle)
    with new_file(path) as file:
        file.write_bytes(msgspec.json.format(content, indent=2) + b"\n")
    return path


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(encode_manifest(manifest)).hexdigest()


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
