"""The figures of an evaluation, which convert to JSON with ``msgspec.json.encode``."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from .detection import Detected
from .downstream import Downstream
from .robustness import Curve
from .subjects import Evaluated, Measured

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
BINS = 40


class ErrorFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The reconstruction error of one evaluated model over all rows."""

    name: str
    mse: float
    """Mean squared error, in scaled units squared."""
    mae: float | None
    """Mean absolute error, in scaled units; None where the bundle holds no decoder."""
    psnr: float | None
    """For images: ``10 log10((max - min)² / MSE)`` in dB, all three in raw units and over all rows."""
    quantiles: dict[str, float]
    """Quantiles of the rows' errors (MSE)."""
    threshold: float | None
    """Error above which a row is an alarm."""
    above: float | None
    """Share of the rows above the threshold, whatever their label."""
    bin_edges: tuple[float, ...]
    """Bin edges of the histogram, in units of the error; the last bin ends at the largest error."""
    bin_counts: tuple[int, ...]


class Compression(msgspec.Struct, frozen=True, kw_only=True):
    """Ratio of the input's size to the code's."""

    input_values: int
    code_values: int
    values: float
    """Input values for one value of the code."""
    input_bytes: int
    """In the type of the data at hand."""
    code_bytes: int
    """In float32, as every artifact gives it."""
    bytes: float
    """Input bytes for one byte of the code."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one run or bundle on one set of rows."""

    rows: int
    fit_rows: int
    """Normal rows on which PCA and isolation forest were fitted; 0: on a half of the rows at hand."""
    compression: Compression
    error: tuple[ErrorFigures, ...]
    robustness: tuple[Curve, ...]
    downstream: Downstream | None = None
    """With labels."""
    detection: tuple[Detected, ...] = ()
    """Given labels of normal and anomalous rows."""
    kl: tuple[float, ...] | None = None
    """Of a variational run: the KL term of each value of the code, in nats, averaged over the rows."""


def compression_of(rows: NDArray[Any], latent: int) -> Compression:
    """Compare rows (n, *shape) with a code of ``latent`` values."""
    size = int(np.prod(rows.shape[1:]))
    code_bytes = latent * np.dtype(np.float32).itemsize
    return Compression(
        input_values=size,
        code_values=latent,
        values=size / latent,
        input_bytes=size * rows.dtype.itemsize,
        code_bytes=code_bytes,
        bytes=size * rows.dtype.itemsize / code_bytes,
    )


def error_figures(subject: Evaluated, found: Measured, rows: NDArray[Any], *, images: bool) -> ErrorFigures:
    """Sum up what a subject made of rows (n, *shape) in raw units."""
    psnr = None
    if images and found.raw_squared is not None and found.raw_squared.any():
        peak = float(rows.max()) - float(rows.min())
        psnr = float(10 * np.log10(peak**2 / found.raw_squared.mean())) if peak else None
    # the few largest errors share the last bin, or they would press all others into the first
    edges = np.linspace(
        0, max(float(np.quantile(found.errors, 0.99)), float(np.finfo(np.float32).tiny)), BINS + 1
    )
    counts, _ = np.histogram(np.minimum(found.errors, edges[-1]), edges)
    edges[-1] = max(edges[-1], found.errors.max())
    limit = subject.threshold
    return ErrorFigures(
        name=subject.name,
        mse=float(found.errors.mean()),
        mae=None if found.absolute is None else float(found.absolute.mean()),
        psnr=psnr,
        quantiles={str(q): float(np.quantile(found.errors, q)) for q in QUANTILES},
        threshold=limit,
        above=None if limit is None else float(np.mean(found.errors > limit)),
        bin_edges=tuple(edges.tolist()),
        bin_counts=tuple(counts.tolist()),
    )


def are_images(shape: tuple[int, ...], *, series: bool) -> bool:
    """Return whether samples are images: (height, width), or with one, three or four channels."""
    return not series and (
        (len(shape) == 2 and min(shape) > 3) or (len(shape) == 3 and shape[-1] in (1, 3, 4))
    )
