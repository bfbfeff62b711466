"""Making one artifact after another from a source, each judged as the device will run it."""

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import Artifact, EngineError, Floats, Recipe, Trial
from edgeae_runtime.artifacts import overflowing_weights
from edgeae_runtime.bundle import DEFAULT_RULE, TENSORS, Rule, artifact_name
from edgeae_runtime.engines import engines_of, golden_key, load_engine, run_batches
from edgeae_runtime.names import Format, Precision, Role

from .config import ExportConfig
from .errors import ModelError
from .fidelity.candidate import Candidate
from .fidelity.limits import DEFAULT_LIMITS, MICRO_LIMITS, Limits
from .fidelity.reference import Reference
from .fidelity.rows import check_rows, split_rows
from .formats import micro, onnx, tflite
from .formats.operators import operators_of
from .model.check import find_unconvertible
from .model.rebuild import RECURRENT
from .quantization import onnx as quantize_onnx
from .quantization import tflite as quantize_tflite
from .quantization.recipes import MICRO, check_recipe, recipes_for
from .quantization.rounding import CONVOLUTIONS, round_weights
from .quiet import quiet
from .source import Source

GOLDEN_ROWS = 8

_ROLES: tuple[Role, ...] = ("encoder", "decoder", "scorer")
_DEFAULTS = ExportConfig()
_CONVERTERS: dict[Format, ModuleType] = {"onnx": onnx, "tflite": tflite}
_QUANTIZERS: dict[Format, ModuleType] = {"onnx": quantize_onnx, "tflite": quantize_tflite}


@dataclass(frozen=True)
class Options:
    """Artifacts to export, and their fidelity limits."""

    formats: tuple[Format, ...] = _DEFAULTS.formats
    precisions: tuple[Precision, ...] = _DEFAULTS.precisions
    recipe: str = _DEFAULTS.recipe
    """Name of the quantization recipe; ``auto`` tries the sensible ones and keeps the best."""
    rule: Rule = DEFAULT_RULE
    """For the thresholds."""
    limits: dict[Precision, Limits] = field(default_factory=lambda: DEFAULT_LIMITS)

    def kinds(self) -> list[tuple[Role, Precision, Format]]:
        """Return what will be made, in order."""
        return [
            *((r, p, f) for f in self.formats if f != "c" for p in self.precisions for r in _ROLES),
            *((("autoencoder", "int8", f) for f in ("tflite", "c")) if "c" in self.formats else ()),
        ]


class ArtifactBuilder:
    """Makes the artifacts of one source; what they share is computed once."""

    def __init__(self, source: Source, options: Options) -> None:
        """Split the rows, run the Keras model on them, and check that they are fit to calibrate on.

        Raises:
            DataError: too few rows, all of them the same or unknown to the model, the model gives NaN on
                them, or the threshold's rule needs anomalies.
            RecipeError: no recipe of that name for what is exported.
            (warning) EdgeaeWarning: the model hardly reconstructs the rows.
        """
        check_recipe(options.recipe, [(f, p) for _, p, f in options.kinds()])
        self.source, self.options = source, options
        calibration, held_out = split_rows(source.rows)
        self.calibration = Reference.of(source, calibration)
        check_rows(self.calibration)
        known = () if source.anomalies is None else (source.anomalies,)
        self.rows = np.ascontiguousarray(np.concatenate([held_out, *known]), dtype=np.float32)
        self.anomalous = np.arange(len(self.rows)) >= len(held_out)
        self.reference = Reference.of(source, self.rows)
        errors = self.reference.error
        self.threshold = options.rule.choose(errors[~self.anomalous], errors[self.anomalous])
        self._chosen: dict[tuple[Precision, Format], tuple[Recipe, tuple[Trial, ...]]] = {}
        self._rounded: dict[tuple[Format, tuple[type, ...]], Source] = {}
        self._converted: dict[tuple[int, Role, Format], bytes] = {}

    @property
    def golden(self) -> dict[str, NDArray[Any]]:
        """The inputs that all artifacts share: raw rows, and Keras's embedding of them."""
        return {"input": self.rows[:GOLDEN_ROWS], "embedding": self.reference.embedding[:GOLDEN_ROWS]}

    def make(self, role: Role, precision: Precision, file_format: Format) -> Candidate:
        """Make one artifact and measure its fidelity.

        Raises:
            ModelError: the format cannot hold one of the model's layers.
        """
        if file_format == "c":
            return self._c_source(self.make("autoencoder", precision, "tflite"))
        if role == "autoencoder":
            return self._micro
        if precision in ("float32", "float16"):
            content = self._float(self.source, role, file_format)
            if precision == "float16":
                with quiet():
                    content = _QUANTIZERS[file_format].to_float16(content)
            return self._judge(role, precision, file_format, content)
        recipe, trials = self._choose(precision, file_format)
        content = self._quantized(role, file_format, recipe)
        return self._judge(role, precision, file_format, content, recipe, trials if role == "scorer" else ())

    def _choose(self, precision: Precision, file_format: Format) -> tuple[Recipe, tuple[Trial, ...]]:
        """Return the first recipe that is faithful with room to spare, or else the most faithful."""
        kind = (precision, file_format)
        if kind not in self._chosen:
            recipes = recipes_for(file_format, precision, self.options.recipe)
            candidates = []
            for recipe in recipes:
                content = self._quantized("scorer", file_format, recipe)
                try:
                    candidates.append(self._judge("scorer", precision, file_format, content, recipe))
                except EngineError:  # LiteRT does not run every mixture of rounded and float layers
                    if recipe is recipes[-1] and not candidates:
                        raise
            faithful = [made for made in candidates if not made.violations] or candidates
            ample = self.options.limits[precision].error_median / 2
            best = min(faithful, key=lambda made: made.artifact.fidelity.error_median)
            chosen = next((made for made in faithful if made.artifact.fidelity.error_median <= ample), best)
            assert chosen.artifact.recipe is not None
            trials = tuple(_trial(made.artifact) for made in candidates)
            self._chosen[kind] = chosen.artifact.recipe, trials
        return self._chosen[kind]

    def _float(self, source: Source, role: Role, file_format: Format) -> bytes:
        """Return the float32 model of the source or of a rounded one; converting is what takes longest."""
        key = (id(source), role, file_format)
        if key not in self._converted:
            self._converted[key] = _convert(source, role, file_format)
        return self._converted[key]

    def _quantized(self, role: Role, file_format: Format, recipe: Recipe) -> bytes:
        source = self.source
        if recipe.rounding == "compensated":
            source = self._rounded_for(file_format, recipe)
        model = self._float(source, role, file_format)
        calibration = self.calibration.embedding if role == "decoder" else self._raw_calibration
        with quiet():
            content: bytes = _QUANTIZERS[file_format].quantize(model, role, calibration, recipe)
        return content

    def _rounded_for(self, file_format: Format, recipe: Recipe) -> Source:
        """Return the autoencoder with its weights on the format's grid, but for layers that stay in float.

        In ONNX those are recurrent layers where ranges are calibrated, and convolutions where they are not.
        """
        keep: tuple[type, ...] = ()
        if file_format == "onnx":
            keep = CONVOLUTIONS if recipe.calibration is None else RECURRENT
        layers = (layer for model in (self.source.encoder, self.source.decoder) for layer in model.layers)
        if not any(isinstance(layer, keep) for layer in layers):
            keep = ()
        key = (file_format, keep)
        if key not in self._rounded:
            safe = file_format == "onnx"
            self._rounded[key] = round_weights(self.source, self.calibration.scaled, safe=safe, keep=keep)
        return self._rounded[key]

    @cached_property
    def _micro(self) -> Candidate:
        rounded = self._rounded_for("tflite", MICRO)
        try:
            with quiet():
                content = tflite.convert_int8(rounded, self.calibration.scaled)
        except Exception:  # as in _convert
            self._float(rounded, "scorer", "tflite")  # names the layer that is to blame
            raise
        return self._judge("autoencoder", "int8", "tflite", content, MICRO)

    @cached_property
    def _raw_calibration(self) -> Floats:
        rows, _ = split_rows(self.source.rows)
        return np.ascontiguousarray(rows, dtype=np.float32).reshape(self.calibration.scaled.shape)

    def _judge(
        self,
        role: Role,
        precision: Precision,
        file_format: Format,
        content: bytes,
        recipe: Recipe | None = None,
        trials: tuple[Trial, ...] = (),
    ) -> Candidate:
        """Run an artifact in the engine that the device will use, and compare it with Keras."""
        reference, *_ = engines_of(file_format)
        with quiet():
            engine = load_engine(reference.name, content, role, threads=1)
        batch: NDArray[Any] = self.reference.embedding if role == "decoder" else self.rows
        own_input: dict[str, NDArray[Any]] = {}
        restore = None
        if role == "autoencoder":
            restore = micro.quantizations(content)
            batch = restore["input"].quantize(self.reference.scaled)
            own_input["input"] = batch[:GOLDEN_ROWS]
        batch = batch.reshape(-1, *engine.shape)
        outputs = run_batches(engine, batch, precision, file_format)
        real = outputs
        if restore is not None:
            real = [restore[t].restore(o) for t, o in zip(TENSORS[role][1], outputs, strict=True)]
        threshold, fidelity = self.reference.judge(
            role, real, rule=self.options.rule, anomalous=self.anomalous
        )
        artifact = Artifact(
            role=role,
            precision=precision,
            format=file_format,
            path=artifact_name(role, precision, file_format),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            opset=onnx.OPSET if file_format == "onnx" else None,
            recipe=recipe,
            trials=trials,
            fidelity=fidelity,
            threshold=threshold,
            operators=operators_of(content, file_format),
        )
        few = run_batches(engine, batch[:GOLDEN_ROWS], precision, file_format)
        tensors = {**own_input, **dict(zip(TENSORS[role][1], few, strict=True))}
        limits = MICRO_LIMITS if role == "autoencoder" else self.options.limits[precision]
        golden = {golden_key(artifact, tensor): values for tensor, values in tensors.items()}
        violations = limits.violations(fidelity)
        if file_format == "onnx" and overflowing_weights(content):
            violations.append("its int8 sums can overflow on x86 processors without VNNI")
        return Candidate(artifact, content, violations, golden)

    def _c_source(self, model: Candidate) -> Candidate:
        """Return the microcontroller's model as C source, with its header beside it."""
        artifact = model.artifact
        latent = self.reference.embedding.shape[1]
        files = micro.c_files(
            model.content, self.source.scaler, self.source.input, latent, artifact.threshold
        )
        content = files.pop(micro.SOURCE_NAME)
        as_c = msgspec.structs.replace(
            artifact,
            format="c",
            path=micro.SOURCE_NAME,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        return Candidate(as_c, content, model.violations, {}, files)


def _convert(source: Source, role: Role, file_format: Format) -> bytes:
    """Convert in float; where that fails, name the layer that cannot be converted."""
    converter = _CONVERTERS[file_format]
    try:
        with quiet():
            content: bytes = converter.convert(source, role)
            return content
    except Exception as error:  # the converters raise types of their own, private ones among them
        blame = find_unconvertible(source, lambda s: converter.convert(s, "scorer"))
        first = next(iter(str(error).splitlines()), type(error).__name__)
        reason = re.sub(r"^<unknown>:0: error: loc\(.*\): ", "", first)  # where in the graph, at length
        raise ModelError(f"{file_format} cannot hold {blame or 'the ' + role}: {reason}") from error


def _trial(artifact: Artifact) -> Trial:
    assert artifact.recipe is not None
    fidelity = artifact.fidelity
    return Trial(
        recipe=artifact.recipe.name,
        error_median=fidelity.error_median,
        rank_correlation=fidelity.rank_correlation,
    )
