"""The reconstruction error of every evaluated model, and how much smaller the code is than the input."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..context import Context
from ..report_table import ReportTable, number, share
from ..subjects import Evaluated, Measured

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


def compute(context: Context) -> tuple[ErrorFigures, ...]:
    """Return the error of every model that is compared."""
    rows, measured = context.samples.rows, context.measured
    peak = float(rows.max()) - float(rows.min()) if context.images else None
    return tuple(error_figures(s, measured[s.name], peak) for s in context.compared)


def compute_compression(context: Context) -> Compression:
    """Compare a row with its code."""
    rows, latent = context.samples.rows, context.opened.latent_size
    size = context.opened.input.size
    code_bytes = latent * np.dtype(np.float32).itemsize
    return Compression(
        input_values=size,
        code_values=latent,
        values=size / latent,
        input_bytes=size * rows.dtype.itemsize,
        code_bytes=code_bytes,
        bytes=size * rows.dtype.itemsize / code_bytes,
    )


def error_figures(subject: Evaluated, found: Measured, peak: float | None) -> ErrorFigures:
    """Sum up the errors of one model.

    Args:
        subject: the model.
        found: what it made of the rows.
        peak: of images, the largest less the least value in raw units; else None.
    """
    psnr = None
    if peak and found.raw_squared is not None and found.raw_squared.any():
        psnr = float(10 * np.log10(peak**2 / found.raw_squared.mean()))
    edges, counts = _histogram(found.errors)
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


def _histogram(errors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return edges and counts; the few largest errors share the last bin, or all others would the first."""
    top = max(float(np.quantile(errors, 0.99)), float(np.finfo(np.float32).tiny))
    edges = np.linspace(0, top, BINS + 1)
    counts, _ = np.histogram(np.minimum(errors, edges[-1]), edges)
    edges[-1] = max(edges[-1], errors.max())
    return edges, counts


def table(found: tuple[ErrorFigures, ...], compression: Compression, rows: int) -> ReportTable:
    """Return the figures of all models as a table."""
    heading = ["model", "MSE", "MAE", "PSNR dB", "median", "95 %", "99 %", "largest", "threshold", "above"]
    body = [
        [
            e.name,
            number(e.mse),
            number(e.mae),
            "" if e.psnr is None else f"{e.psnr:.2f}",
            *(number(e.quantiles[q]) for q in ("0.5", "0.95", "0.99", "1.0")),
            number(e.threshold),
            share(e.above),
        ]
        for e in found
    ]
    c = compression
    note = (
        f"{rows:,} rows; errors in scaled units. Code: {c.code_values} of {c.input_values} values "
        f"({c.values:.1f} to 1), {c.code_bytes} of {c.input_bytes} bytes ({c.bytes:.1f} to 1)."
    )
    if any(e.psnr is not None for e in found):
        note += " PSNR: 10 log10((max - min)² / MSE), in raw units."
    else:
        heading, *body = [row[:3] + row[4:] for row in (heading, *body)]
    return ReportTable("Reconstruction error", [heading, *body], note)
