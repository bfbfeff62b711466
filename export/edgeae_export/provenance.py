"""Where a bundle comes from, and the id by which it is known: of the model, before any artifact is made."""

import hashlib
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime.bundle import DataFile, Provenance

from .source import Source

HELD_OUT = "held-out rows"
ANOMALIES = "rows known to be anomalies"


def provenance(source: Source) -> Provenance:
    """Return what an export knows of its origin: the training's settings, and the rows that it works on."""
    data = [DataFile(name=HELD_OUT, sha256=_digest(source.rows), rows=len(source.rows))]
    if source.anomalies is not None:
        data.append(DataFile(name=ANOMALIES, sha256=_digest(source.anomalies), rows=len(source.anomalies)))
    return Provenance(data=tuple(data), settings=source.settings)


def bundle_id(source: Source, origin: Provenance) -> str:
    """Return the SHA-256 of float weights, scaler, input, settings and data.

    Args:
        source: the autoencoder.
        origin: its provenance.
    """
    known = hashlib.sha256(msgspec.json.encode([source.scaler, source.input, origin], order="sorted"))
    for model in (source.encoder, source.decoder):
        for weights in model.get_weights():
            known.update(_digest(weights).encode())
    return known.hexdigest()


def _digest(values: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's type, shape and values."""
    content = np.ascontiguousarray(values)
    known = hashlib.sha256(f"{content.dtype.str} {content.shape} ".encode())
    known.update(content.data)
    return known.hexdigest()
