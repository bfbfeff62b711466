"""The device's view of a bundle: one object with a few verbs, raw units in and out."""

import os
from math import isfinite
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import as_array, as_samples
from .bundle.archive import Bundle
from .bundle.manifest import Artifact, Floats, Manifest, Threshold
from .engines.auto import choose
from .engines.base import Engine, RowRunner, run_batches
from .engines.fork import empty_in_children
from .engines.golden import check_sizes
from .engines.registry import EngineName, find_engine, load_engine
from .errors import BundleError, DataError, EdgeaeError
from .names import Precision, PrecisionName, Role
from .streams.alarm import Alarm
from .streams.detector import Detection
from .streams.drift import Drift

if TYPE_CHECKING:
    from .streams.stream import Stream

_FLOAT32 = np.dtype(np.float32)  # numpy has one object for it in the machine's byte order
_new = tuple.__new__  # makes a named tuple in half the time

Kind = TypeVar("Kind", bound=np.generic)


def load(
    path: str | os.PathLike[str],
    *,
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    threads: int = 1,
    arena: bool = True,
    rows: int = 1,
) -> "Detector":
    """Open a bundle, folder or zip file.

    ``auto`` takes the fastest of the installed engines and the bundle's precisions. The first time on a
    device that is measured, in some tens of milliseconds; OpenVINO, where it is installed, takes longer.

    Args:
        path: the bundle.
        engine: ``auto``, or the one to use.
        precision: ``auto``, or the one to use.
        threads: how many share the rows of one call, and how many calls may run at once.
        arena: whether ONNX Runtime may keep memory between calls; False saves memory and costs some time.
        rows: for how many rows in a call ``auto`` should be fast.

    Raises:
        BundleError: see `Bundle`; also where it has no artifact of that engine and precision.
        FidelityError: ``auto`` finds no model that is right on this machine.
    """
    bundle = Bundle(path)
    chosen = choose(bundle, engine=engine, precision=precision, threads=threads, arena=arena, rows=rows)
    return Detector(bundle, *chosen, threads=threads, arena=arena)


class Detector:
    """A bundle made runnable: what `load` returns.

    Its model files are read, verified and loaded when first needed. `edgeae_runtime.Autoencoder`, its name
    in 0.1.0, is the same class. `score` gives errors, so more is worse; that of the scikit-learn estimator
    `edgeae.Autoencoder` gives their negative, so more is better.
    """

    def __init__(
        self, bundle: Bundle, engine: str, precision: Precision, *, threads: int = 1, arena: bool = True
    ) -> None:
        """Take what `load` has chosen; nothing is read yet."""
        self.manifest: Manifest = bundle.manifest
        self.engine, self.precision = engine, precision
        self._bundle, self._threads, self._arena = bundle, threads, arena
        self._shape = bundle.manifest.input.shape
        self._artifacts: dict[Role, Artifact] = {}
        self._engines: dict[Role, Engine] = {}
        self._one_row: dict[Role, RowRunner] = {}
        empty_in_children(self, self._engines, self._one_row)

    def __repr__(self) -> str:
        """Show the bundle and how it is run."""
        chosen = f"engine={self.engine!r}, precision={self.precision!r}, threads={self._threads}"
        return f"<{type(self).__name__} of {str(self._bundle.path)!r}, {chosen}>"

    @property
    def digest(self) -> str:
        """The SHA-256 of the bundle's manifest, as it was when this was made of it."""
        return self._bundle.digest

    @property
    def threshold(self) -> Threshold:
        """The threshold of the scorer in use; each artifact has its own."""
        return self._artifact("scorer").threshold

    @property
    def artifact(self) -> str:
        """The scorer in use, a file of the bundle: what a threshold is for; see `write_threshold`."""
        return self._artifact("scorer").path

    def embed(self, samples: ArrayLike) -> Floats:
        """Return embeddings, (n, latent size), or (latent size,) for one sample.

        Args:
            samples: raw units; (n, *shape), (n, size) or one sample of `Manifest.input.shape`. Of a table or
                a reading with names, where the bundle has some too, the columns that it wants are taken.

        Returns:
            The encoder's output; infinite or NaN where a value is so extreme that it overflows.

        Raises:
            DataError: wrong shape or type, NaN or infinity, or a column is missing.
            BundleError, EngineError: the encoder is missing, altered or does not load.
        """
        one = self._run_one("encoder", samples)
        if one and isfinite(np.vdot(samples, samples)):  # type: ignore[arg-type]  # the cheapest check of all values
            return one[0]
        rows, single = self._rows(samples)
        (embedding,) = self._run("encoder", as_samples(rows))
        return _first(embedding, single)

    def decode(self, embeddings: ArrayLike) -> Floats:
        """Return reconstructions, (n, *shape) in raw units, of embeddings (n, latent size) or one.

        Errors are those of `embed`.
        """
        values = as_array(embeddings, where="embeddings")
        size = self.manifest.latent_size
        if values.shape[-1:] != (size,) or values.ndim > 2:
            raise DataError(f"embeddings: expected ({size},) or (n, {size}), found {values.shape}")
        (decoded,) = self._run("decoder", as_samples(values.reshape(-1, size), where="embeddings"))
        return _first(decoded.reshape(-1, *self.manifest.input.shape), values.ndim == 1)

    def reconstruct(self, samples: ArrayLike) -> Floats:
        """Return what encoder and decoder make of the samples: float32, their shape, raw units.

        Of a table, its columns are those of the bundle. NaN where the embedding overflows. Arguments and
        errors are those of `embed`.
        """
        rows, single = self._rows(samples)
        codes = self.embed(rows)
        lost = np.asarray(~np.isfinite(codes).all(axis=1))
        decoded = self.decode(np.where(lost[:, np.newaxis], 0, codes))
        decoded[lost] = np.nan
        return _first(decoded.reshape(rows.shape), single)

    def score(self, samples: ArrayLike) -> Floats:
        """Return reconstruction errors, (n,), or a scalar for one sample.

        The error's formula is the manifest's, in scaled units. It is infinite where a sample is so far from
        the training data that it overflows. Arguments and errors are those of `embed`.
        """
        one = self._run_one("scorer", samples)
        if one and isfinite(one[1]):
            return one[1]  # type: ignore[return-value]  # a scalar is an array without axes
        rows, single = self._rows(samples)
        _, error = self._score(rows)
        return _first(error, single)

    def detect(self, samples: ArrayLike) -> Detection:
        """Return errors, verdicts and embeddings from one pass; arguments and errors as for `embed`.

        An error that overflows is infinite, and so an anomaly.
        """
        one = self._run_one("scorer", samples)
        if one and isfinite(one[1]):
            limit = self._limit
            return _new(Detection, (one[1], one[1] > limit, one[0], limit))
        rows, single = self._rows(samples)
        embedding, error = self._score(rows)
        limit = self._limit
        return Detection(
            _first(error, single), _first(error > limit, single), _first(embedding, single), limit
        )

    def stream(
        self,
        *,
        threshold: float | Threshold | None = None,
        alarm: Alarm = Alarm(),  # noqa: B008  # frozen
        drift: Drift | None = Drift(),  # noqa: B008
        hold: int = 0,
        step: float | None = None,
        state: bytes | None = None,
    ) -> "Stream":
        """Return a `Stream`, which takes one sample at a time and returns a result for each window.

        Args:
            threshold: instead of the artifact's own; a `Threshold` brings its quantiles for the drift.
            alarm: when an alarm starts and ends.
            drift: how long errors must be unusual to be called a drift; None for no such monitor.
            hold: consecutive missing values of a channel that its last known one may stand for.
            step: seconds from one sample to the next; without it the median of the first steps.
            state: from `Stream.state`, to go on after a restart.

        Raises:
            DataError: a setting is out of range, or the state cannot be read.
            BundleError: the bundle has no scorer for this engine and precision.
        """
        from .streams.stream import Stream  # not at the top: most apps need no stream

        return Stream(self, threshold=threshold, alarm=alarm, drift=drift, hold=hold, step=step, state=state)

    def _run_one(self, role: Role, samples: ArrayLike) -> tuple[Floats, np.float32] | None:
        """Return embedding and error of one float32 sample of the right shape; None for all else.

        Each check counts: a dense int8 scorer takes 2 µs. Whether the sample is finite is left to the caller,
        and what is wrong to the general way.
        """
        if type(samples) is not np.ndarray or samples.dtype is not _FLOAT32 or samples.shape != self._shape:
            return None
        try:
            return (self._one_row.get(role) or self._bind_row(role))(samples)
        except EdgeaeError:
            raise
        except Exception:  # the engines raise types of their own
            return None

    def _bind_row(self, role: Role) -> RowRunner:
        run = (self._engines.get(role) or self._load(role)).one_row(self._shape)
        self._one_row[role] = run
        return run

    def _score(self, rows: NDArray[np.generic]) -> list[Floats]:
        """Run the scorer. A NaN or infinity in the input shows in the error, so look for it there."""
        if rows.dtype != np.float32 or not rows.size:
            rows = as_samples(rows)
        embedding, error = outputs = self._run("scorer", rows)
        lost = ~np.isfinite(error)
        if lost.any():
            as_samples(rows)  # names the row where the input is to blame; else it is extreme
            error[lost], embedding[lost] = np.inf, np.nan
        return outputs

    def _rows(self, samples: ArrayLike) -> tuple[NDArray[np.generic], bool]:
        if type(samples) is not np.ndarray or samples.dtype.names:
            from .named import by_name  # not at the top: most apps give arrays

            samples = by_name(samples, self.manifest.input.features)
        values = as_array(samples)
        shape = self.manifest.input.shape
        if values.shape == shape:
            return values[np.newaxis], True
        if values.shape[1:] in (shape, (self.manifest.input.size,)):
            return values, False
        raise DataError(
            f"input: expected samples of shape {shape}, so one sample or (n, {', '.join(map(str, shape))}); "
            f"found {values.shape}"
        )

    def _run(self, role: Role, rows: NDArray[np.generic]) -> list[Floats]:
        engine = self._engines.get(role) or self._load(role)
        batch = np.ascontiguousarray(rows, dtype=np.float32).reshape(-1, *engine.shape)
        return run_batches(engine, batch, self.precision, self._artifact(role).format)

    def _load(self, role: Role) -> Engine:
        artifact = self._artifact(role)
        engine = load_engine(
            self.engine, self._bundle.read_artifact(artifact), role, self._threads, arena=self._arena
        )
        check_sizes(self._bundle, artifact, engine)
        if role == "scorer":
            self._limit = artifact.threshold.value
        self._engines[role] = engine
        return engine

    def _artifact(self, role: Role) -> Artifact:
        if role not in self._artifacts:
            artifact = find_engine(self.engine).artifact(self.manifest, role, self.precision)
            if artifact is None:
                raise BundleError(
                    f"{self._bundle.path}: has no {role} of precision {self.precision} for {self.engine}; "
                    f"it holds {', '.join(a.path for a in self.manifest.artifacts)}"
                )
            self._artifacts[role] = artifact
        return self._artifacts[role]


Autoencoder: TypeAlias = Detector
"""The name in 0.1.0, which stays."""


def _first(values: NDArray[Kind], single: bool) -> NDArray[Kind]:
    first: NDArray[Kind] = values[0] if single else values
    return first
