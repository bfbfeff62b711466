"""Proof that a bundle is as exported: its files' hashes, and its outputs on the golden inputs."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..bundle.archive import Bundle
from ..bundle.container import read_arrays
from ..bundle.manifest import GOLDEN_NAME, TENSORS, Artifact
from ..errors import BundleError, EdgeaeError, EngineError
from ..names import Precision
from .base import Engine, run_batches
from .registry import engines_here, load_engine

GOLDEN_TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "float16": 1e-2, "dynamic": 2e-2, "int8": 2e-2}
"""Allowed difference from the golden outputs, as a share of the largest: processors add up in other orders,
and quantized kernels round to a neighbouring step now and then."""


class Check(msgspec.Struct, frozen=True):
    """What `verify` found of one artifact in one engine, or of a file that is nothing to run."""

    artifact: str
    status: str
    """``ok``, ``failed``, ``skipped`` where the engine is not installed, or ``refused`` where this engine
    cannot run, or runs wrong, what another one runs right."""
    detail: str
    """The largest difference, or what went wrong."""
    engine: str | None = None
    difference: float | None = None
    """The largest difference from the golden outputs, as a share of their range; None if not compared."""


def check_sizes(bundle: Bundle, artifact: Artifact, engine: Engine) -> None:
    """Compare what a loaded artifact takes and gives for one row with what the manifest says.

    Raises:
        BundleError: they differ.
    """
    sample, latent = bundle.manifest.input.size, bundle.manifest.latent_size
    wanted = {"input": sample, "embedding": latent, "reconstruction": sample, "error": 1}
    taken, given = TENSORS[artifact.role]
    where = f"{bundle}: {artifact.path}"
    if math.prod(engine.shape) != wanted[taken]:
        raise BundleError(
            f"{where} takes rows of shape {engine.shape}, the manifest says {wanted[taken]} values; "
            "export the bundle again"
        )
    for name, size in zip(given, engine.sizes, strict=True):
        if size != wanted[name]:
            raise BundleError(
                f"{where} gives {size} values for the {name}, the manifest says {wanted[name]}; "
                "export the bundle again"
            )


def golden_key(artifact: Artifact, tensor: str) -> str:
    """Return the name in the golden file of an artifact's own tensor."""
    return f"{artifact.path}:{tensor}"


def verify(bundle: Bundle, *, threads: int = 1, engines: Collection[str] | None = None) -> list[Check]:
    """Check each file's hash; run each artifact on the golden inputs and compare.

    An int8 ONNX file that is right here, but may not be on another processor, is said to be so.

    Args:
        bundle: what to check.
        threads: of each engine.
        engines: those to run besides the references, which made the golden outputs; None for all that are
            installed.

    Raises:
        BundleError: the golden file itself is missing or altered.
    """
    golden = load_golden(bundle)
    here = engines_here()
    checks: list[Check] = []
    for artifact in bundle.manifest.artifacts:
        names = [record.name for record in here if artifact.format in record.formats]
        wanted = [name for name in names if engines is None or name is names[0] or name in engines]
        checks += _check_in_each(bundle, artifact, wanted, golden, threads)
    for name in bundle.manifest.files:
        if name != GOLDEN_NAME:  # but what is nothing to run, such as the header of a C artifact
            try:
                bundle.read_file(name)
                checks.append(Check(name, "ok", "as it was exported"))
            except BundleError as error:
                checks.append(Check(name, "failed", str(error)))
    return checks


def _check_in_each(
    bundle: Bundle, artifact: Artifact, names: Sequence[str], golden: dict[str, NDArray[Any]], threads: int
) -> Iterator[Check]:
    """Check an artifact in its reference, and where it does not fail there in the other engines."""
    is_right = False
    for name in names or (None,):
        check, _ = check_artifact(bundle, artifact, name, golden, threads)
        if is_right and check.status == "failed":  # the file is none the worse for it
            check = msgspec.structs.replace(check, status="refused")
        yield _with_overflow(bundle, artifact, check)
        if check.status == "failed":
            return
        is_right = is_right or check.status == "ok"


def _with_overflow(bundle: Bundle, artifact: Artifact, check: Check) -> Check:
    """Say so where a file that is right here would not be on every other processor."""
    if artifact.format != "onnx" or artifact.precision not in ("dynamic", "int8") or check.status != "ok":
        return check
    from ..artifacts.overflow import overflowing_weights

    if not overflowing_weights(bundle.read_artifact(artifact)):
        return check
    told = "may be wrong on x86 processors without VNNI, where its int8 sums can overflow; export it again"
    return msgspec.structs.replace(check, detail=f"{check.detail}; {told}")


def load_golden(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """Return the golden inputs and outputs.

    Raises:
        BundleError: the file is missing, altered or cannot be read.
    """
    content = bundle.read_file(GOLDEN_NAME)
    try:
        return read_arrays(content)
    except Exception as error:  # on damaged files zipfile and numpy raise a dozen unrelated types
        reason = " ".join(str(error).split())
        raise BundleError(f"{bundle.path}: the golden inputs cannot be read ({reason})") from error


def golden_input(artifact: Artifact, golden: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the golden rows that an artifact takes, (n, ...)."""
    name = TENSORS[artifact.role][0]
    return np.ascontiguousarray(golden.get(golden_key(artifact, name), golden[name]))


def check_artifact(
    bundle: Bundle,
    artifact: Artifact,
    name: str | None,
    golden: dict[str, NDArray[Any]],
    threads: int = 1,
    *,
    arena: bool = True,
) -> tuple[Check, Engine | None]:
    """Run one artifact on the golden inputs and compare; also return it as loaded where it is right.

    ``name`` is that of an engine that runs its format; None for C sources, which none runs.
    """

    def found(status: str, detail: object) -> Check:
        return Check(artifact.path, status, str(detail), name)

    def bad(reason: object, status: str = "failed") -> tuple[Check, None]:
        return found(status, reason), None

    try:
        content = bundle.read_artifact(artifact)
        if name is None:
            return found("ok", "source code; its network is the int8 TFLite autoencoder"), None
        engine = load_engine(name, content, artifact.role, threads, arena=arena)
        check_sizes(bundle, artifact, engine)
        batch = golden_input(artifact, golden)
        if not len(batch):
            raise ValueError("it has no rows")
        batch = batch.reshape(len(batch), *engine.shape)
        outputs = run_batches(engine, batch, artifact.precision, artifact.format)
        expected = [golden[golden_key(artifact, tensor)] for tensor in TENSORS[artifact.role][1]]
        # numpy's maximum, unlike Python's, is NaN where one of them is
        worst = float(np.max([_difference(a, b) for a, b in zip(outputs, expected, strict=True)]))
    except EngineError as error:
        return bad(error, "skipped" if isinstance(error.__cause__, ImportError) else "failed")
    except EdgeaeError as error:
        return bad(error)
    except KeyError as error:
        return bad(f"the golden file has no {error}; export the bundle again")
    except ValueError as error:
        return bad(f"its shapes are not those of the golden file ({error})")
    limit = GOLDEN_TOLERANCE[artifact.precision]
    if not worst <= limit:  # so that NaN fails too
        detail = f"differs by {worst:.2g} of its range; at most {limit:g} is allowed"
        return Check(artifact.path, "failed", detail, name, worst), None
    detail = f"differs by {worst:.2g} of its range; {limit:g} is allowed"
    return Check(artifact.path, "ok", detail, name, worst), engine


def _difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    reference = expected.astype(np.float64)
    scale = float(np.abs(reference).max()) or 1.0
    return float(np.abs(found.reshape(expected.shape) - reference).max()) / scale
