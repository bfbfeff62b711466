"""What a stream asks of an autoencoder; the facade, which makes streams, stands above."""

from math import isfinite
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..bundle.manifest import Floats, Manifest, Threshold


class Detection(NamedTuple):
    """What `Detector.detect` returns for n samples (or for one: then without the first axis)."""

    error: Floats
    """Reconstruction errors, (n,); infinite where they overflow."""
    anomaly: NDArray[np.bool_]
    """Whether each error is above the threshold, (n,)."""
    embedding: Floats
    """(n, latent size); NaN where the error is infinite."""
    threshold: float
    """The threshold used, in units of the error."""

    def __repr__(self) -> str:
        """Show short arrays whole, and of others the shape."""
        shown = [f"{name}={_shown(value)}" for name, value in zip(self._fields, self, strict=True)]
        return f"{type(self).__name__}({', '.join(shown)})"

    def to_dict(self) -> dict[str, Any]:
        """Return the same in Python's own numbers and lists, as JSON and web frameworks want it.

        What is infinite or NaN is None, for which JSON has a word, as in what ``edgeae score`` writes.
        """
        return {
            name: _plain(np.asarray(value).tolist()) for name, value in zip(self._fields, self, strict=True)
        }


def _shown(value: Any) -> str:
    values = np.asarray(value)
    if values.ndim > 1:
        return f"<{' x '.join(map(str, values.shape))} {values.dtype}>"
    text = np.array2string(
        values, precision=6, threshold=8, edgeitems=3, separator=", ", max_line_width=10_000
    )
    return text if values.ndim else f"{values.item():.6g}" if values.dtype.kind == "f" else str(values.item())


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value if isfinite(value) else None


class WindowDetector(Protocol):
    """Judges one window at a time; `Detector` is one."""

    manifest: Manifest

    @property
    def artifact(self) -> str:
        """The scorer in use, a file of the bundle."""

    @property
    def threshold(self) -> Threshold:
        """The threshold of the scorer in use."""

    def detect(self, samples: Floats) -> Detection:
        """Judge one sample of `Manifest.input.shape`, in raw units."""
