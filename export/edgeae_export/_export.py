"""The pipeline: convert, quantize, judge, pack."""

import hashlib
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgeae_runtime import Artifact, DataError, FidelityError, Manifest
from edgeae_runtime._engines import ENGINE_FORMATS, load_engine
from edgeae_runtime._files import check_target, new_folder
from edgeae_runtime._manifest import (
    FORMAT_VERSION,
    FORMATS,
    GOLDEN_NAME,
    MANIFEST_NAME,
    ROLES,
    TENSORS,
    Floats,
    Format,
    Precision,
    Role,
    artifact_name,
    encode_manifest,
)
from edgeae_runtime._verify import golden_key

from . import _onnx, _tflite
from ._gate import DEFAULT_LIMITS, Limits, Reference, choose_threshold
from ._quiet import quiet
from ._rounding import round_weights
from ._source import Source

LEAST_ROWS = 20
"""Held-out rows below which neither a calibration nor a threshold means anything."""
MOST_CALIBRATION_ROWS = 1024
GOLDEN_ROWS = 8

_CONVERTERS: dict[Format, ModuleType] = {"onnx": _onnx, "tflite": _tflite}
_PRODUCERS = (
    "edgeae",
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "ai-edge-quantizer",
)


@dataclass(frozen=True)
class _Draft:
    """An artifact before it is judged."""

    role: Role
    precision: Precision
    format: Format
    content: bytes

    @property
    def path(self) -> str:
        return artifact_name(self.role, self.precision, self.format)


def export(
    source: Source,
    path: Path,
    *,
    formats: Sequence[Format] = FORMATS,
    precisions: Sequence[Precision] = ("float32", "int8"),
    limits: dict[Precision, Limits] | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Manifest:
    """Export an autoencoder to a bundle; nothing is written unless every artifact is faithful.

    Args:
        source: the autoencoder, from `load_run`.
        path: the bundle's folder, ``NAME.edgeae``.
        formats: which of ``onnx`` and ``tflite``.
        precisions: which of ``float32`` and ``int8``.
        limits: per precision, instead of the defaults.
        force: replace a bundle that is already there.
        progress: called with the name of each artifact before it is made.

    Raises:
        OutputError: the target exists and ``force`` is false, or it cannot be written.
        DataError: too few held-out rows, or the model gives NaN on them.
        FidelityError: an artifact is outside the limits.
    """
    check_target(path, force=force)
    calibration_rows, judged_rows = _split(source.rows)
    reference = Reference.of(source, judged_rows)
    drafts = list(_convert(source, formats, precisions, Reference.of(source, calibration_rows), progress))
    golden: dict[str, Floats] = {
        "input": judged_rows[:GOLDEN_ROWS].astype(np.float32),
        "embedding": reference.embedding[:GOLDEN_ROWS],
    }
    artifacts, violations = [], {}
    for draft in drafts:
        artifact, outside = _judge(draft, reference, judged_rows, golden, limits or DEFAULT_LIMITS)
        artifacts.append(artifact)
        if outside:
            violations[artifact.path] = outside
    if violations:
        refused = "; ".join(f"{name}: {', '.join(found)}" for name, found in violations.items())
        raise FidelityError(
            f"{path}: not written, {len(violations)} of {len(artifacts)} artifacts refused: {refused}"
        )
    golden_bytes = _pack(golden)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        input=source.input,
        scaler=source.scaler,
        latent_size=reference.embedding.shape[1],
        error="mse",
        reference=choose_threshold(reference.error),
        golden_sha256=hashlib.sha256(golden_bytes).hexdigest(),
        artifacts=tuple(artifacts),
        producer={name: version(name) for name in _PRODUCERS},
    )
    with new_folder(path, force=force) as folder:
        for draft in drafts:
            (folder / draft.path).write_bytes(draft.content)
        (folder / GOLDEN_NAME).write_bytes(golden_bytes)
        (folder / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    return manifest


def _split(rows: Any) -> tuple[Any, Any]:
    """Return rows to calibrate on and others to judge on and to take the thresholds from."""
    if len(rows) < LEAST_ROWS:
        raise DataError(
            f"{len(rows)} held-out rows are too few to calibrate and to set a threshold, at least "
            f"{LEAST_ROWS} are needed; train on more rows or with a larger --validation-split"
        )
    half = len(rows) // 2
    return rows[:half][:MOST_CALIBRATION_ROWS], rows[half:]


def _convert(
    source: Source,
    formats: Sequence[Format],
    precisions: Sequence[Precision],
    calibration: Reference,
    progress: Callable[[str], None],
) -> Iterator[_Draft]:
    """Yield the artifacts; quantized ones are made from a copy whose weights are rounded already.

    The decoder is calibrated on what the encoder gives.
    """
    raw = np.ascontiguousarray(source.scaler.unscale(calibration.scaled))
    rounded = round_weights(source, calibration.scaled) if "int8" in precisions else source
    for file_format, role in itertools.product(formats, ROLES):
        converter = _CONVERTERS[file_format]
        for precision in precisions:
            progress(artifact_name(role, precision, file_format))
            with quiet():
                if precision == "float32":
                    content = converter.convert(source, role)
                else:
                    inputs = calibration.embedding if role == "decoder" else raw
                    content = converter.quantize(converter.convert(rounded, role), role, inputs)
            yield _Draft(role, precision, file_format, content)


def _judge(
    draft: _Draft, reference: Reference, rows: Any, golden: dict[str, Floats], limits: dict[Precision, Limits]
) -> tuple[Artifact, list[str]]:
    """Run an artifact in the engine that the device will use; add its outputs to the golden ones."""
    name = next(engine for engine, kind in ENGINE_FORMATS.items() if kind == draft.format)
    engine = load_engine(name, draft.content, draft.role, threads=1)
    batch = reference.embedding if draft.role == "decoder" else rows
    batch = np.ascontiguousarray(batch, dtype=np.float32).reshape(-1, *engine.shape)
    outputs = engine.run(batch)
    threshold, fidelity = reference.judge(draft.role, outputs)
    artifact = Artifact(
        role=draft.role,
        precision=draft.precision,
        format=draft.format,
        path=draft.path,
        bytes=len(draft.content),
        sha256=hashlib.sha256(draft.content).hexdigest(),
        opset=_onnx.OPSET if draft.format == "onnx" else None,
        fidelity=fidelity,
        threshold=threshold,
    )
    few = engine.run(batch[:GOLDEN_ROWS])
    for tensor, values in zip(TENSORS[draft.role][1], few, strict=True):
        golden[golden_key(artifact, tensor)] = values
    return artifact, limits[draft.precision].violations(fidelity)


def _pack(arrays: dict[str, Floats]) -> bytes:
    """Return an uncompressed npz; numpy dates every entry 1980-01-01, so equal arrays give equal bytes."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for allow_pickle
    return stream.getvalue()
