"""The settings of an export; what they may be, their help and their defaults stand here and nowhere else."""

from typing import Annotated, TypeAlias

import msgspec

from edgeae_runtime.names import DEFAULT_RULE_TEXT, Format, Precision

Correlation: TypeAlias = Annotated[float, msgspec.Meta(ge=-1, le=1)]


class ExportConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to export, and how near to the float model the quantized artifacts must be."""

    formats: Annotated[
        tuple[Format, ...],
        msgspec.Meta(description="Of onnx, tflite, and c (for TensorFlow Lite Micro)."),
    ] = ("onnx", "tflite")
    precisions: Annotated[
        tuple[Precision, ...],
        msgspec.Meta(description="Of float32, float16, dynamic and int8, for onnx and tflite."),
    ] = ("float32", "int8")
    recipe: Annotated[str, msgspec.Meta(description="How to quantize; auto tries several.")] = "auto"
    threshold: Annotated[
        str,
        msgspec.Meta(
            description="Rule for the thresholds: quantile:Q, sigma:K, max, max:FACTOR, or f1 with --labels."
        ),
    ] = DEFAULT_RULE_TEXT
    max_error_change: Annotated[
        Annotated[float, msgspec.Meta(ge=0)] | None,
        msgspec.Meta(description="Limit: median relative change of the error."),
    ] = None
    min_rank_correlation: Annotated[
        Correlation | None, msgspec.Meta(description="Limit: Spearman correlation of the errors.")
    ] = None
    min_cosine: Annotated[
        Correlation | None, msgspec.Meta(description="Limit: mean cosine of the embeddings.")
    ] = None
