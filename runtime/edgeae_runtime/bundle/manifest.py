"""The contract of a bundle, for exporter and runtime: ``manifest.json``."""

import math
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..names import Format, Precision, Role

GOLDEN_NAME = "golden.npz"

TENSORS: dict[Role, tuple[str, tuple[str, ...]]] = {
    "encoder": ("input", ("embedding",)),
    "decoder": ("embedding", ("reconstruction",)),
    "scorer": ("input", ("embedding", "error")),
    "autoencoder": ("input", ("embedding", "reconstruction")),
}
"""Each role's input tensor and its output tensors, in order, in every format.

The ``autoencoder`` is the bare network for microcontrollers: int8 in and out, scaled units.
"""

Floats: TypeAlias = NDArray[np.float32]


class Scaler(msgspec.Struct, frozen=True, kw_only=True):
    """Raw units to the network's units: ``scaled = (float32(x) - offset) * gain``.

    Both tuples have one value for the whole sample or one for each entry of its last axis.
    """

    kind: Literal["minmax", "standard", "none"]
    """How the two were fitted: to [0, 1], to mean 0 and variance 1, or not at all."""
    offset: tuple[float, ...]
    """In raw units."""
    gain: tuple[float, ...]
    """Scaled units per raw unit; never zero."""

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that no scaler can have."""
        if len(self.offset) != len(self.gain) or not self.offset:
            raise ValueError(f"scaler: {len(self.offset)} offsets and {len(self.gain)} gains; want as many")
        with np.errstate(over="ignore"):  # an infinity is found below
            offset, gain = np.asarray(self.offset, np.float32), np.asarray(self.gain, np.float32)
        if not (np.isfinite(offset).all() and np.isfinite(gain).all() and gain.all()):
            raise ValueError("scaler: as float32, every offset and gain must be finite and no gain zero")

    def scale(self, samples: NDArray[np.generic]) -> Floats:
        """Return ``samples`` (n, *shape), in raw units, as float32 in scaled units."""
        offset, gain = np.asarray(self.offset, np.float32), np.asarray(self.gain, np.float32)
        scaled: Floats = (samples.astype(np.float32, copy=False) - offset) * gain
        return scaled

    def unscale(self, scaled: Floats) -> Floats:
        """Return ``scaled`` (n, *shape) in raw units, float32."""
        offset, gain = np.asarray(self.offset, np.float32), np.asarray(self.gain, np.float32)
        raw: Floats = (scaled / gain).astype(np.float32, copy=False) + offset
        return raw


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """What one sample looks like, in raw units."""

    shape: tuple[int, ...]
    """Without the batch axis."""
    features: tuple[str, ...] | None = None
    """Names along the last axis, where the training data had any."""
    dtype: Literal["float32"] = "float32"
    window: int | None = None
    """Readings in one sample, for a time series."""
    stride: int | None = None
    """Readings from the start of one window to the start of the next."""

    @property
    def size(self) -> int:
        """Values in one sample."""
        return math.prod(self.shape)


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """The error above which a sample counts as an anomaly."""

    rule: str
    """How it was chosen, such as ``quantile:0.99``."""
    value: float
    """In units of the error."""
    rows: int
    """Held-out normal rows that it was taken on."""
    quantiles: dict[str, float]
    """The error's quantiles on those rows, so that another false-alarm rate can be chosen later."""
    independent_rows: float | None = None
    """How many independent rows those are worth: overlapping windows are worth less than their number."""
    false_alarm_rate: float | None = None
    """The share of normal rows above the threshold that was asked for."""
    upper_bound: float | None = None
    """A bound that this share on new normal rows stays below, as far as so few rows can tell."""
    method: str | None = None
    """How the bound was found."""


class Fidelity(msgspec.Struct, frozen=True, kw_only=True):
    """How far an artifact, half of it with Keras's other half, is from the float model on held-out rows."""

    rows: int
    error_median: float
    """Median of ``abs(error - reference) / reference``."""
    error_p99: float
    """99th percentile of the same."""
    rank_correlation: float
    """Spearman's, between the errors and the reference errors."""
    embedding_cosine: float | None = None
    """Mean cosine between the embeddings; absent for a decoder."""
    reconstruction_max: float | None = None
    """Largest absolute difference of a reconstruction, in scaled units; absent for a scorer."""
    false_alarms: float
    """Share of the rows above the artifact's own threshold."""
    false_alarms_reference: float
    """Share of the rows above the float model's threshold."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A choice of how the network's layers are quantized."""

    name: str
    calibration: Literal["minmax", "percentile", "entropy"] | None
    """How activation ranges are found; None where they are taken at run time."""
    granularity: Literal["channel", "tensor"]
    """What shares a weight scale."""
    rounding: Literal["compensated", "nearest"]
    """Of the weights; see `edgeae_export`'s documentation."""
    activations: Literal["unsigned", "signed"]
    float_tensors: Literal["none", "code", "ends"]
    """What no layer gets rounded: nothing, the code, or the code and the last layer's input."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What one recipe gave when the best was looked for."""

    recipe: str
    error_median: float
    rank_correlation: float


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """One model file of the bundle."""

    role: Role
    precision: Precision
    format: Format
    path: str
    bytes: int
    sha256: str
    opset: int | None = None
    """ONNX operator set; absent for TFLite."""
    recipe: Recipe | None = None
    """Absent for float artifacts."""
    trials: tuple[Trial, ...] = ()
    """All recipes that were tried, this one included."""
    fidelity: Fidelity
    threshold: Threshold
    operators: tuple[str, ...] = ()
    """Names of the operators in the file, sorted; of other domains than ONNX's own as ``domain:name``."""

    def __post_init__(self) -> None:
        """Raise ValueError for a path outside of the bundle."""
        _check_name(self.path)


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column of the data that the model was trained on."""

    name: str
    role: Literal["feature", "time", "group", "label", "ignored"]
    unit: str | None = None


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What the activation ranges of quantized artifacts were taken from."""

    rows: int
    independent_rows: float | None = None
    """As for a threshold."""


class DataFile(msgspec.Struct, frozen=True, kw_only=True):
    """Data that had a part in the bundle."""

    name: str
    """A file's name without its folder, or what the data are."""
    sha256: str
    """Of the file's bytes, or of the values as they lie in memory, row by row."""
    rows: int | None = None


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a bundle comes from; without dates and paths, so that the same inputs give the same bytes."""

    name: str | None = None
    """What people call the model."""
    data: tuple[DataFile, ...] = ()
    settings: dict[str, Any] = {}
    """Of the training, as it used them."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a device must know about a bundle besides the networks themselves."""

    format_version: int
    input: Input
    scaler: Scaler
    latent_size: int
    """Values in one embedding."""
    error: Literal["mse"]
    """The reconstruction error's formula; see `reconstruction_error`."""
    reference: Threshold
    """The float Keras model's own threshold."""
    files: dict[str, str]
    """SHA-256 by name of what is not an artifact itself, such as the golden inputs."""
    artifacts: tuple[Artifact, ...]
    producer: dict[str, str]
    """Versions of the packages that made the bundle."""
    needs_runtime: str | None = None
    """The first edgeae-runtime that reads it."""
    id: str | None = None
    """SHA-256 of float weights, scaler, input, settings and data: known before any artifact is made."""
    columns: tuple[Column, ...] = ()
    calibration: Calibration | None = None
    provenance: Provenance | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a file outside of the bundle."""
        for name in self.files:
            _check_name(name)

    @property
    def all_files(self) -> dict[str, str]:
        """SHA-256 by name of every file of the bundle but the manifest and its digest."""
        return {**{artifact.path: artifact.sha256 for artifact in self.artifacts}, **self.files}

    def find(self, role: Role, precision: Precision, file_format: Format) -> Artifact | None:
        """Return the artifact of that kind, or None."""
        wanted = (role, precision, file_format)
        return next((a for a in self.artifacts if (a.role, a.precision, a.format) == wanted), None)


def _check_name(name: str) -> None:
    if "/" in name or "\\" in name or name.startswith(".") or not name.isprintable() or not name:
        raise ValueError(f"{name!r} must be a plain file name")


def artifact_name(role: Role, precision: Precision, file_format: Format) -> str:
    """Return an artifact's file name, such as ``scorer.int8.onnx``."""
    return f"{role}.{precision}.{file_format}"
