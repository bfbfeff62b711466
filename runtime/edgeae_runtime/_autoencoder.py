"""The device's view of a bundle: one object with a few verbs, raw units in and out."""

import math
import os
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._bundle import Bundle
from ._data import as_array, as_samples
from ._engines import ENGINE_FORMATS, Engine, load_engine, run_batches
from ._errors import BundleError, DataError
from ._manifest import PRECISIONS, Artifact, Floats, Manifest, Precision, Role, Threshold

EngineName: TypeAlias = Literal["auto", "onnxruntime", "litert"]
PrecisionName: TypeAlias = Precision | Literal["auto"]

Kind = TypeVar("Kind", bound=np.generic)


class Detection(NamedTuple):
    """What `Autoencoder.detect` says of n samples (or of one: then without the first axis)."""

    error: Floats
    """Reconstruction errors, (n,)."""
    anomaly: NDArray[np.bool_]
    """Whether each error is above the threshold, (n,)."""
    embedding: Floats
    """(n, latent size)."""
    threshold: float
    """The threshold used, in units of the error."""


def load(
    path: str | os.PathLike[str],
    *,
    engine: EngineName = "auto",
    precision: PrecisionName = "auto",
    threads: int = 1,
) -> "Autoencoder":
    """Open a bundle, folder or zip file.

    Args:
        path: the bundle.
        engine: ``auto`` takes ONNX Runtime where the bundle has ONNX files, else LiteRT.
        precision: ``auto`` takes ``int8`` where the bundle has it, else the most precise one.
        threads: how many the engine may use for one call.

    Raises:
        BundleError: see `Bundle`; also where it has no artifact of that engine and precision.
    """
    return Autoencoder(Bundle(Path(path)), engine=engine, precision=precision, threads=threads)


class Autoencoder:
    """A bundle made runnable. Its model files are read, verified and loaded when first needed."""

    def __init__(self, bundle: Bundle, *, engine: EngineName, precision: PrecisionName, threads: int) -> None:
        """See `load`."""
        self.manifest: Manifest = bundle.manifest
        self._bundle = bundle
        self._threads = threads
        self.engine, self.precision = _choose(bundle, engine, precision)
        self._engines: dict[Role, Engine] = {}

    @property
    def threshold(self) -> Threshold:
        """The threshold of the scorer in use; each artifact has its own."""
        return self._artifact("scorer").threshold

    def embed(self, samples: ArrayLike) -> Floats:
        """Return embeddings, (n, latent size), or (latent size,) for one sample.

        Args:
            samples: raw units; (n, *shape), (n, size) or one sample of `Manifest.input.shape`.

        Raises:
            DataError: wrong shape or type, NaN or infinity.
            BundleError, EngineError: the encoder is missing, altered or does not load.
        """
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

        Arguments and errors are those of `embed`.
        """
        rows, _ = self._rows(samples)
        return self.decode(self.embed(rows)).reshape(np.shape(samples))

    def score(self, samples: ArrayLike) -> Floats:
        """Return reconstruction errors, (n,), or a scalar for one sample.

        The error's formula is the manifest's, in scaled units. Arguments and errors are those of
        `embed`.
        """
        rows, single = self._rows(samples)
        _, error = self._score(rows)
        return _first(error, single)

    def detect(self, samples: ArrayLike) -> Detection:
        """Return errors, verdicts and embeddings from one pass; arguments and errors as for `embed`."""
        rows, single = self._rows(samples)
        embedding, error = self._score(rows)
        limit = self.threshold.value
        return Detection(
            _first(error, single), _first(error > limit, single), _first(embedding, single), limit
        )

    def _score(self, rows: NDArray[np.generic]) -> list[Floats]:
        """Run the scorer. A NaN or infinity in the input shows in the error, so look for it there."""
        if rows.dtype != np.float32 or not rows.size:
            rows = as_samples(rows)
        outputs = self._run("scorer", rows)
        if not np.isfinite(outputs[1]).all():
            as_samples(rows)  # names the row where the input is to blame
            row = int(np.flatnonzero(~np.isfinite(outputs[1]))[0]) + 1
            raise DataError(f"input: row {row} is so far from the training data that its error is not finite")
        return outputs

    def _rows(self, samples: ArrayLike) -> tuple[NDArray[np.generic], bool]:
        """Return the samples as (n, *shape) or (n, size), and whether there was just one."""
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
        return run_batches(engine, batch, self.precision, ENGINE_FORMATS[self.engine])

    def _load(self, role: Role) -> Engine:
        artifact = self._artifact(role)
        engine = load_engine(self.engine, self._bundle.read_artifact(artifact), role, self._threads)
        size = self.manifest.latent_size if role == "decoder" else self.manifest.input.size
        if math.prod(engine.shape) != size:
            raise BundleError(
                f"{self._bundle.path}: {artifact.path} takes rows of shape {engine.shape}, the manifest says "
                f"{size} values; export the bundle again"
            )
        self._engines[role] = engine
        return engine

    def _artifact(self, role: Role) -> Artifact:
        artifact = self.manifest.find(role, self.precision, ENGINE_FORMATS[self.engine])
        if artifact is None:
            raise BundleError(
                f"{self._bundle.path}: has no {role} of precision {self.precision} for {self.engine}; "
                f"it holds {', '.join(a.path for a in self.manifest.artifacts)}"
            )
        return artifact


def _choose(bundle: Bundle, engine: EngineName, precision: PrecisionName) -> tuple[str, Precision]:
    """Return the first pair of engine and precision that the bundle has, in order of preference."""
    engines = list(ENGINE_FORMATS) if engine == "auto" else [engine]
    precisions: list[Precision] = ["int8", *PRECISIONS] if precision == "auto" else [precision]
    held = {(a.format, a.precision) for a in bundle.manifest.artifacts if a.role != "autoencoder"}
    for name in engines:
        for kind in precisions:
            if (ENGINE_FORMATS.get(name), kind) in held:
                return name, kind
    raise BundleError(
        f"{bundle.path}: has nothing of precision {precision} for engine {engine}; "
        f"it holds {', '.join(a.path for a in bundle.manifest.artifacts)}"
    )


def _first(values: NDArray[Kind], single: bool) -> NDArray[Kind]:
    """Return the values as they are, or of a single sample without the batch axis."""
    if not single:
        return values
    first: NDArray[Kind] = values[0]
    return first
