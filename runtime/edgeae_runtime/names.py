"""The words of a bundle that manifest, engines and options share.

Nothing here takes time to import, so the commands have them at hand before there is anything to do.
"""

from typing import Literal, TypeAlias, get_args

VERSION = "0.1.0"
"""Of edgeae-runtime, as in its pyproject.toml."""

MANIFEST_NAME = "manifest.json"
SEAL_NAME = "manifest.sha256"
"""SHA-256 of the manifest's bytes, as ``sha256sum -c`` reads it."""

Role: TypeAlias = Literal["encoder", "decoder", "scorer", "autoencoder"]
Precision: TypeAlias = Literal["float32", "float16", "dynamic", "int8"]
Format: TypeAlias = Literal["onnx", "tflite", "c"]
PrecisionName: TypeAlias = Literal["auto", "float32", "float16", "dynamic", "int8"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

DEFAULT_RULE_TEXT = "quantile:0.99"
"""How a threshold is chosen where nothing else is asked for; see `edgeae export --threshold`."""

RESULT_SUFFIXES = (".npy", ".csv", ".jsonl", ".parquet")
"""Of the files that ``edgeae embed`` and ``edgeae score`` write."""
