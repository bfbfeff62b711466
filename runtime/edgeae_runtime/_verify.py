"""Proof on the device itself: every file is what was exported, and every model says what it said then."""

import io
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ._bundle import Bundle
from ._engines import ENGINE_FORMATS, Engine, load_engine, run_batches
from ._errors import BundleError, EdgeaeError, EngineError
from ._manifest import GOLDEN_NAME, TENSORS, Artifact, Precision

GOLDEN_TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "float16": 1e-2, "dynamic": 2e-2, "int8": 2e-2}
"""Allowed difference from the golden outputs, as a share of the largest of them.

Float kernels differ between processors in the order of their sums; quantized ones round to a
neighbouring step now and then.
"""


class Check(msgspec.Struct, frozen=True):
    """What `verify` found of one artifact."""

    artifact: str
    status: str
    """``ok``, ``failed``, or ``skipped`` where the engine is not installed."""
    detail: str
    """The largest difference, or what went wrong."""


def golden_key(artifact: Artifact, tensor: str) -> str:
    """Return the name in ``golden.npz`` of one output of an artifact."""
    return f"{artifact.path}:{tensor}"


def verify(bundle: Bundle, *, threads: int = 1) -> list[Check]:
    """Check each file's hash; run each artifact on the golden inputs and compare.

    Raises:
        BundleError: the golden file itself is missing or altered.
    """
    golden = load_golden(bundle)
    checks = [check_artifact(bundle, artifact, golden, threads)[0] for artifact in bundle.manifest.artifacts]
    return checks + [_check_file(bundle, name) for name in bundle.manifest.files if name != GOLDEN_NAME]


def _check_file(bundle: Bundle, name: str) -> Check:
    """Check a file that is nothing to run, such as the header of a C artifact."""
    try:
        bundle.read_file(name)
    except BundleError as error:
        return Check(name, "failed", str(error))
    return Check(name, "ok", "as it was exported")


def load_golden(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """Return the golden inputs and outputs by name.

    Raises:
        BundleError: the file is missing, altered or damaged.
    """
    content = bundle.read_file(GOLDEN_NAME)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # on damaged files zipfile and numpy raise a dozen unrelated types
        raise BundleError(f"{bundle.path}: the golden inputs cannot be read ({error})") from error


def golden_input(artifact: Artifact, golden: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the rows that an artifact is to be run on, (n, …)."""
    name = TENSORS[artifact.role][0]
    return np.ascontiguousarray(golden.get(golden_key(artifact, name), golden[name]))


def check_artifact(
    bundle: Bundle,
    artifact: Artifact,
    golden: dict[str, NDArray[Any]],
    threads: int = 1,
    *,
    arena: bool = True,
) -> tuple[Check, Engine | None]:
    """Run one artifact on the golden inputs and compare; also return it as loaded where it is right."""

    def bad(reason: object, status: str = "failed") -> tuple[Check, None]:
        return Check(artifact.path, status, str(reason)), None

    try:
        content = bundle.read_artifact(artifact)
        if artifact.format == "c":
            return Check(artifact.path, "ok", "source code; its network is the int8 TFLite autoencoder"), None
        name = next(engine for engine, kind in ENGINE_FORMATS.items() if kind == artifact.format)
        engine = load_engine(name, content, artifact.role, threads, arena=arena)
        batch = golden_input(artifact, golden)
        outputs = run_batches(
            engine, batch.reshape(len(batch), *engine.shape), artifact.precision, artifact.format
        )
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
        return bad(f"differs by {worst:.2g} of its range; at most {limit:g} is allowed")
    return Check(artifact.path, "ok", f"differs by {worst:.2g} of its range; {limit:g} is allowed"), engine


def _difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    reference = expected.astype(np.float64)
    scale = float(np.abs(reference).max()) or 1.0
    return float(np.abs(found.reshape(expected.shape) - reference).max()) / scale
