"""All figures of an evaluation, and the table of what is measured."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from .context import Context
from .measures import detection, downstream, error, kl, robustness
from .measures.detection import Detected
from .measures.downstream import Downstream
from .measures.error import Compression, ErrorFigures
from .measures.robustness import Curve
from .report_table import ReportTable


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one run or bundle on one set of rows; ``msgspec.json.encode`` makes JSON of them."""

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


@dataclass(frozen=True)
class Measure:
    """Something that is measured."""

    field: str
    """Of `Evaluation`: where its figures are kept."""
    compute: Callable[[Context], Any]
    tables: Callable[[Evaluation], Iterable[ReportTable]]
    """The figures as tables; none where there are no figures."""
    is_drawn: bool = False
    """Whether the report draws the figures, and has no table of them."""


MEASURES = (
    Measure("compression", error.compute_compression, lambda e: ()),  # stands in the note on the error
    Measure("error", error.compute, lambda e: [error.table(e.error, e.compression, e.rows)]),
    Measure("detection", detection.compute, lambda e: detection.tables(e.detection)),
    Measure(
        "downstream",
        downstream.compute,
        lambda e: () if e.downstream is None else [downstream.table(e.downstream)],
    ),
    Measure("robustness", robustness.compute, lambda e: robustness.tables(e.robustness), is_drawn=True),
    Measure("kl", kl.compute, lambda e: () if e.kl is None else [kl.table(e.kl)]),
)
"""In the order in which their tables are best read."""
