"""The contract of a bundle, for exporter and runtime: ``manifest.json``."""

import hashlib
import math
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from ..names import MANIFEST_NAME, Format, Precision, Role

FORMAT_VERSION = 1
"""The newest bundle format that this runtime reads."""

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


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record that refuses fields it does not know."""


class Scaler(_Strict, frozen=True, kw_only=True):
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


class Input(_Strict, frozen=True, kw_only=True):
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


class Threshold(_Strict, frozen=True, kw_only=True):
    """The error above which a sample counts as an anomaly."""

    rule: str
    """How it was chosen, such as ``quantile:0.99``."""
    value: float
    """In units of the error."""
    rows: int
    """Held-out normal rows that it was taken on."""
    quantiles: dict[str, float]
    """The error's quantiles on those rows, so that another false-alarm rate can be chosen later."""


class Fidelity(_Strict, frozen=True, kw_only=True):
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


class Recipe(_Strict, frozen=True, kw_only=True):
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


class Trial(_Strict, frozen=True, kw_only=True):
    """What one recipe gave when the best was looked for."""

    recipe: str
    error_median: float
    rank_correlation: float


class Artifact(_Strict, frozen=True, kw_only=True):
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

    def __post_init__(self) -> None:
        """Raise ValueError for a path outside of the bundle."""
        _check_name(self.path)


class Manifest(_Strict, frozen=True, kw_only=True):
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

    def __post_init__(self) -> None:
        """Raise ValueError for a file outside of the bundle."""
        for name in self.files:
            _check_name(name)

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


def manifest_digest(manifest: Manifest) -> str:
    """Return its SHA-256."""
    return hashlib.sha256(encode_manifest(manifest)).hexdigest()


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json``."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


class _Version(msgspec.Struct):
    format_version: int


def decode_manifest(content: bytes, where: str) -> Manifest:
    """Read the bytes of ``manifest.json``; errors call the bundle ``where``.

    Raises:
        BundleError: not JSON, of a newer format, or a field is missing, unknown or of a wrong type.
    """
    try:
        version = msgspec.json.decode(content, type=_Version).format_version
        if version > FORMAT_VERSION:
            raise BundleError(
                f"{where}: bundle format {version}, but this runtime reads up to {FORMAT_VERSION}; "
                "update it (pip install --upgrade edgeae-runtime) or export again with an older edgeae"
            )
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BundleError(
            f"{where}: {MANIFEST_NAME} is not valid ({error}); copy the bundle again"
        ) from error
