"""The pipeline: make every artifact, judge it, and pack the faithful ones."""

import hashlib
import io
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError, FidelityError, Input, Manifest, Scaler, windows
from edgeae_runtime.arrays import as_samples
from edgeae_runtime.bundle import (
    FORMAT_VERSION,
    GOLDEN_NAME,
    NEEDS_RUNTIME,
    Calibration,
    Rule,
    encode_manifest,
)
from edgeae_runtime.errors import Argument
from edgeae_runtime.files import check_target, new_file, new_folder, recover
from edgeae_runtime.named import by_name, names_of
from edgeae_runtime.names import MANIFEST_NAME, SEAL_NAME, Format, Precision
from edgeae_runtime.readers import read

from .builder import ArtifactBuilder, Options
from .config import ExportConfig
from .fidelity.candidate import Candidate
from .fidelity.limits import DEFAULT_LIMITS, Limits
from .model.load import from_models, load_keras, load_run
from .provenance import bundle_id, provenance
from .source import UNSCALED, Source

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
_DEFAULTS = ExportConfig()
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every entry of a zip file, so that the same content gives the same bytes."""


def export(
    model: Any,
    data: Any,
    path: str | Path,
    *,
    labels: Any = None,
    scaler: Scaler = UNSCALED,
    latent_layer: str | None = None,
    formats: Sequence[Format] = _DEFAULTS.formats,
    precisions: Sequence[Precision] = _DEFAULTS.precisions,
    recipe: str = _DEFAULTS.recipe,
    threshold: str = _DEFAULTS.threshold,
    limits: dict[Precision, Limits] | None = None,
    as_zip: bool = False,
    keep_passing: bool = False,
    force: bool = False,
) -> Manifest:
    """Export any Keras autoencoder to a bundle.

    Args:
        model: a Keras model, a pair of encoder and decoder, or the path of a run folder or model file.
        data: normal samples that the model was not trained on, in raw units: an array (n, *shape) or
            (n, size), a file, or a table whose columns are the features (of a run: has them); None takes a
            run folder's own held-out rows.
        path: the bundle, ``NAME.edgeae``.
        labels: (n,) of 0 for normal and 1 for anomalous samples; needed for the rule ``f1``.
        scaler: from raw units to those that the model was trained on; a run folder has its own.
        latent_layer: name of the layer whose output is the code, where it cannot be found.
        formats: of ``onnx``, ``tflite`` and ``c``.
        precisions: of ``float32``, ``float16``, ``dynamic`` and ``int8``.
        recipe: name of a quantization recipe, or ``auto``.
        threshold: ``quantile:Q``, ``sigma:K``, ``max``, ``max:FACTOR`` or ``f1``.
        limits: per precision, instead of the defaults.
        as_zip: write one uncompressed zip file instead of a folder.
        keep_passing: write the artifacts that are faithful even where others are not.
        force: replace a bundle that is already there.

    Raises:
        OutputError: the target exists and ``force`` is false, or it cannot be written.
        RunError, ModelError: the model cannot be read, split or converted.
        DataError: the data do not fit, are too few, or make the model give NaN.
        RecipeError, RuleError: an unknown recipe or threshold rule.
        FidelityError: an artifact is outside the limits (or all are, with ``keep_passing``).
    """
    target = Path(path)
    check_target(target, force=force, mark=MANIFEST_NAME)
    source = open_source(model, data, labels=labels, scaler=scaler, latent_layer=latent_layer)
    options = Options(
        formats=tuple(formats),
        precisions=tuple(precisions),
        recipe=recipe,
        rule=Rule.parse(threshold),
        limits={**DEFAULT_LIMITS, **(limits or {})},
    )
    return export_source(source, target, options, as_zip=as_zip, keep_passing=keep_passing, force=force)


def options_of(config: ExportConfig) -> Options:
    """Return the options that settings stand for; their limits are those of the quantized artifacts.

    Raises:
        RuleError: the threshold's rule is not known.
    """
    given = {
        "error_median": config.max_error_change,
        "rank_correlation": config.min_rank_correlation,
        "embedding_cosine": config.min_cosine,
    }
    changes = {name: limit for name, limit in given.items() if limit is not None}
    limits = {
        precision: limit if precision == "float32" else replace(limit, **changes)
        for precision, limit in DEFAULT_LIMITS.items()
    }
    return Options(config.formats, config.precisions, config.recipe, Rule.parse(config.threshold), limits)


def open_source(
    model: Any,
    data: Any,
    *,
    labels: Any = None,
    scaler: Scaler = UNSCALED,
    latent_layer: str | None = None,
) -> Source:
    """Gather what an export starts from; arguments and errors are those of `export`."""
    if isinstance(model, str | Path):
        recover(Path(model))
    if isinstance(model, str | Path) and Path(model).is_dir():
        source = load_run(Path(model), latent_layer=latent_layer)
        if data is not None:
            source = replace(source, rows=_samples_of_run(source.input, data))
    else:
        models = model if isinstance(model, tuple | list) else (model,)
        loaded = tuple(load_keras(Path(m)) if isinstance(m, str | Path) else m for m in models)
        if data is None:
            raise DataError(
                "a model file has no held-out rows of its own; pass normal samples with ", Argument("data")
            )
        rows, features = _read(data)
        source = from_models(loaded, rows, scaler=scaler, features=features, latent_layer=latent_layer)
    return source if labels is None else _label(source, labels)


def _read(data: Any, columns: Sequence[str] | None = None) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Return rows, and the names of their columns, of a file, a table or an array."""
    if not isinstance(data, str | Path):
        named = names_of(data)
        features = None if named is None else tuple(columns or map(str, named[0]))
        return as_samples(by_name(data, features, where="data"), where="data"), features
    table = read(Path(data), columns=columns)
    return table.values, table.features


def _samples_of_run(sample: Input, data: Any) -> NDArray[Any]:
    """Return other rows for a run than its own: windows where it was trained on windows."""
    rows, _ = _read(data, sample.features)
    if sample.window is not None and rows.ndim == 2:
        rows = windows(rows, sample.window, sample.stride or 1)
    if math.prod(rows.shape[1:]) != sample.size:
        raise DataError(
            f"the run was trained on samples of shape {sample.shape}, the data have {rows.shape[1:]}"
        )
    return rows.reshape(-1, *sample.shape)


def _label(source: Source, labels: Any) -> Source:
    """Part the rows of a source into normal ones and anomalies."""
    found = read(Path(labels)).values if isinstance(labels, str | Path) else np.asarray(labels)
    flags: NDArray[Any] = found.reshape(-1)
    if len(flags) != len(source.rows) or not np.isin(flags, (0, 1)).all():
        raise DataError(
            f"labels: expected {len(source.rows)} values of 0 (normal) or 1 (anomalous), found {len(flags)} "
            f"with the values {', '.join(map(str, np.unique(flags)[:5]))}"
        )
    return replace(source, rows=source.rows[flags == 0], anomalies=source.rows[flags == 1])


def export_source(
    source: Source,
    path: Path,
    options: Options,
    *,
    as_zip: bool = False,
    keep_passing: bool = False,
    force: bool = False,
    progress: Callable[[str], None] = lambda artifact: None,
    report: Callable[[list[Candidate]], None] = lambda judged: None,
) -> Manifest:
    """Make, judge and write; see `export`.

    Args:
        source: the autoencoder.
        path: the bundle.
        options: what to make.
        as_zip: as for `export`.
        keep_passing: as for `export`.
        force: as for `export`.
        progress: called with each artifact's name before it is made.
        report: called with all artifacts, faithful or not, before anything is written.
    """
    check_target(path, force=force, mark=MANIFEST_NAME)
    builder = ArtifactBuilder(source, options)
    judged = []
    for role, precision, file_format in options.kinds():
        progress(f"{role}.{precision}.{file_format}")
        judged.append(builder.make(role, precision, file_format))
    report(judged)
    kept = [j for j in judged if not j.violations]
    refused = [j for j in judged if j.violations]
    if not kept or (refused and not keep_passing):
        reasons = "; ".join(f"{j.artifact.path}: {', '.join(j.violations)}" for j in refused)
        raise FidelityError(
            f"{path}: not written, {len(refused)} of {len(judged)} artifacts refused: {reasons}; try "
            "another ",
            Argument("recipe"),
            ", leave that precision out, or write the others with ",
            Argument("keep_passing", True),
        )
    files = _bundle_files(builder, kept)
    manifest = _manifest(builder, kept, files)
    for judgement in kept:
        files[judgement.artifact.path] = judgement.content
    content = encode_manifest(manifest)
    files[MANIFEST_NAME] = content
    files[SEAL_NAME] = f"{hashlib.sha256(content).hexdigest()}  {MANIFEST_NAME}\n".encode()
    _write(files, path, as_zip=as_zip, force=force)
    return manifest


def _bundle_files(builder: ArtifactBuilder, kept: list[Candidate]) -> dict[str, bytes]:
    """Return what the bundle holds besides the artifacts and the manifest."""
    golden = dict(builder.golden)
    files: dict[str, bytes] = {}
    for judged in kept:
        golden.update(judged.golden)
        files.update(judged.files)
    stream = io.BytesIO()
    np.savez(stream, **golden)  # type: ignore[arg-type]  # numpy's stub takes the names for allow_pickle
    files[GOLDEN_NAME] = stream.getvalue()  # numpy dates every entry 1980, so equal arrays give equal bytes
    return files


def _manifest(builder: ArtifactBuilder, kept: list[Candidate], files: dict[str, bytes]) -> Manifest:
    source, origin = builder.source, provenance(builder.source)
    return Manifest(
        format_version=FORMAT_VERSION,
        input=source.input,
        scaler=source.scaler,
        latent_size=builder.reference.embedding.shape[1],
        error="mse",
        reference=builder.threshold,
        files={name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
        artifacts=tuple(judged.artifact for judged in kept),
        producer={name: version(name) for name in _PRODUCERS},
        needs_runtime=NEEDS_RUNTIME,
        id=bundle_id(source, origin),
        calibration=Calibration(rows=len(builder.calibration.scaled)),
        provenance=origin,
    )


def _write(files: dict[str, bytes], path: Path, *, as_zip: bool, force: bool) -> None:
    if not as_zip:
        with new_folder(path, force=force, mark=MANIFEST_NAME) as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)
        return
    check_target(path, force=force)
    with new_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
