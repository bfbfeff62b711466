"""A bundle as a function of data frames, for engines that cut data into batches: Spark, Dask and their like.

>>> from edgeae_runtime import udf
>>> score = udf.scorer("pump.edgeae", keep=["id"])                                # doctest: +SKIP
>>> frame.mapInPandas(score.pandas, f"id bigint, {score.schema}")  # Spark        # doctest: +SKIP
>>> frame.map_partitions(score)                                    # Dask         # doctest: +SKIP

Such an engine decides where a batch ends, so the last bits of a row may differ from run to run, of a
quantized model a rounding step. Where that matters take ``edgeae score``.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .autoencoder import Autoencoder, load
from .engines.base import BATCH_ROWS
from .engines.registry import EngineName
from .errors import BundleError, DataError
from .extras import import_extra
from .names import PrecisionName

__all__ = ["Scorer", "scorer"]


@dataclass(frozen=True)
class Scorer:
    """Data frame in, data frame out. Pickled, it is a path and names; each process loads the bundle once."""

    bundle: str
    """Path, the same on every machine."""
    digest: str
    """SHA-256 of its manifest."""
    columns: tuple[str, ...]
    """The features, in the bundle's order; or one that holds whole samples."""
    keep: tuple[str, ...]
    """Columns that go into the result as they are."""
    embedding: int
    """Values of the embedding in the result: all or none."""
    engine: EngineName
    precision: PrecisionName
    threads: int

    @property
    def schema(self) -> str:
        """The result's columns behind those that are kept, as Spark wants them declared."""
        names = ["error float", "anomaly boolean", *(f"embedding_{i} float" for i in range(self.embedding))]
        return ", ".join(names)

    def __call__(self, frame: Any) -> Any:
        """Return for a pandas DataFrame another with its index: kept columns, error, anomaly, embedding.

        Raises:
            DataError: a column is missing, is no number or not finite.
            BundleError: the bundle is not the one that the scorer was made from.
        """
        found = self._run([self._column(frame, name).to_numpy() for name in self.columns])
        return frame.loc[:, list(self.keep)].assign(**found)

    def pandas(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Do so with each of several DataFrames: for Spark's ``mapInPandas``."""
        return map(self, frames)

    def arrow(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Do so with Arrow record batches: for Spark's ``mapInArrow``."""
        pa = import_extra("pyarrow")
        for batch in batches:
            columns = [self._column(batch, name).to_numpy(zero_copy_only=False) for name in self.columns]
            kept = {name: self._column(batch, name) for name in self.keep}
            yield pa.RecordBatch.from_pydict(kept | self._run(columns))

    def _column(self, table: Any, name: str) -> Any:
        try:
            return table[name]
        except KeyError:
            raise DataError(f"the batch has no column {name!r}; name the columns in udf.scorer") from None

    def _run(self, columns: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        error, anomaly = np.empty(0, np.float32), np.empty(0, np.bool_)
        embedding = np.empty((0, self.embedding), np.float32)
        if len(columns[0]):  # not a partition that is empty
            whole = len(columns) == 1 and columns[0].dtype == object
            try:
                samples = np.stack(columns[0].tolist()) if whole else np.column_stack(columns)
            except ValueError as problem:
                raise DataError(f"column {self.columns[0]!r} holds samples of several sizes") from problem
            ae = _load(self.bundle, self.digest, self.engine, self.precision, self.threads)
            error, anomaly, embedding, _ = ae.detect(samples)
        values = {f"embedding_{i}": embedding[:, i] for i in range(self.embedding)}
        return {"error": error, "anomaly": anomaly, **values}


def scorer(
    bundle: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    embedding: bool = False,
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    threads: int = 1,
) -> Scorer:
    """Make a function of batches from a bundle; what ``auto`` means is settled here, for all machines.

    Args:
        bundle: the path, here and on every machine.
        columns: the features, else those that the bundle names; or one that holds whole samples as lists,
            which a bundle of windows or images needs.
        keep: columns for the result, such as keys.
        embedding: whether to add ``embedding_0``, ``embedding_1``, ….
        engine: as for `load`.
        precision: as for `load`.
        threads: how many may run the bundle in one process at once.

    Raises:
        BundleError: as for `load`.
        DataError: the bundle names no features, or takes more than one reading, and no columns are named.
    """
    path = Path(bundle).absolute()
    found = load(path, engine=engine, precision=precision, rows=BATCH_ROWS)
    expected = found.manifest.input
    if columns is None:
        columns = expected.features or ()
        if len(columns) != expected.size:
            raise DataError(
                f"{bundle}: takes samples of shape {expected.shape}, not rows of named columns; name the "
                "columns with columns=, or one that holds whole samples"
            )
    return Scorer(
        bundle=str(path),
        digest=found.digest,
        columns=tuple(columns),
        keep=tuple(keep),
        embedding=found.manifest.latent_size if embedding else 0,
        engine=cast(EngineName, found.engine),
        precision=found.precision,
        threads=threads,
    )


@lru_cache(maxsize=8)
def _load(
    bundle: str, digest: str, engine: EngineName, precision: PrecisionName, threads: int
) -> Autoencoder:
    found = load(bundle, engine=engine, precision=precision, threads=threads)
    if found.digest != digest:
        raise BundleError(f"{bundle}: is not the one that the scorer was made from; make it again")
    return found
