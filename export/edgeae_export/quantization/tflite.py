"""Quantized TFLite artifacts, by ai-edge-quantizer.

TensorFlow's converter can only quantize a whole graph, and a reconstruction error does not survive that. The
quantizer works by operator and by name, so the scaler and the error stay in float.
"""

import re
from collections import Counter
from typing import Any

from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import algorithm_manager, qtyping, quantizer

from edgeae_runtime import Floats, Recipe
from edgeae_runtime.bundle import TENSORS
from edgeae_runtime.names import Role

from ..formats.compact import compact
from ..formats.tflite import SIGNATURE

_KINDS = {
    qtyping.BuiltinOperator.FULLY_CONNECTED: qtyping.TFLOperationName.FULLY_CONNECTED,
    qtyping.BuiltinOperator.CONV_2D: qtyping.TFLOperationName.CONV_2D,
    qtyping.BuiltinOperator.DEPTHWISE_CONV_2D: qtyping.TFLOperationName.DEPTHWISE_CONV_2D,
    qtyping.BuiltinOperator.TRANSPOSE_CONV: qtyping.TFLOperationName.CONV_2D_TRANSPOSE,
}
"""Operators that are quantized. The scaler, the activations and the error stay in float."""


def quantize(model: bytes, role: Role, calibration: Floats, recipe: Recipe) -> bytes:
    """Return the quantized twin of a float32 model.

    Weights are int8 per channel. Activations are int8 with calibrated ranges, except where rounding
    would go straight into the embedding or the reconstruction: around a float code, and in the last layer,
    ranges are taken at run time and outputs left in float; with float ends these layers compute in float.

    Args:
        model: from `convert`, of a source whose weights are rounded as the recipe defines.
        role: of the model.
        calibration: rows for the model's input, (n, *shape).
        recipe: how.
    """
    layers, exposed, recurrent = _layers(model, role)
    if not layers:  # a half that only pools or reshapes
        return model
    session = quantizer.Quantizer(model)
    for name, kind in layers:
        if name in recurrent:
            session.add_dynamic_config(_exactly(name), kind, num_bits=8)
        elif name in exposed and recipe.float_tensors == "ends":
            session.add_weight_only_config(_exactly(name), kind, num_bits=8)
        elif recipe.calibration is None or (name in exposed and recipe.float_tensors == "code"):
            session.add_dynamic_config(_exactly(name), kind, num_bits=8)
        else:
            session.add_static_config(_exactly(name), kind, activation_num_bits=8, weight_num_bits=8)
    rows = {SIGNATURE: [{TENSORS[role][0]: calibration}]}
    return compact(
        session.quantize(session.calibrate(rows) if session.need_calibration else None).quantized_model
    )


def to_float16(model: bytes) -> bytes:
    """Return a model whose layers' weights are kept in half precision; scaler and error stay in float32."""
    layers, _, _ = _layers(model, "encoder")
    if not layers:
        return model
    session = quantizer.Quantizer(model)
    for name, kind in layers:
        session.update_quantization_recipe(
            _exactly(name),
            kind,
            qtyping.OpQuantizationConfig(
                weight_tensor_config=qtyping.TensorQuantizationConfig(
                    num_bits=16, dtype=qtyping.TensorDataType.FLOAT
                ),
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            ),
            algorithm_manager.AlgorithmName.FLOAT_CASTING,
        )
    return bytes(session.quantize().quantized_model)


def _layers(model: bytes, role: Role) -> tuple[list[tuple[str, Any]], set[str], set[str]]:
    """Return each layer's output tensor and kind in order of execution; which are exposed; which recur.

    Exposed are the layers before and after the code, and the last one. Layers inside an unrolled
    recurrence share their weights; calibrated ranges would not hold for a state that feeds back.
    """
    content: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    graph = content.subgraphs[0]
    embedding = next(
        (o.tensorIndex for o in content.signatureDefs[0].outputs if o.name == b"embedding"), None
    )
    uses = Counter(tensor for operator in graph.operators for tensor in set(operator.inputs))
    shared = set()
    before: list[tuple[str, Any]] = []
    after: list[tuple[str, Any]] = []
    current = after if role == "decoder" else before
    for operator in graph.operators:
        kind = _KINDS.get(content.operatorCodes[operator.opcodeIndex].builtinCode)
        if kind is not None:
            name = graph.tensors[operator.outputs[0]].name.decode()
            current.append((name, kind))
            if uses[operator.inputs[1]] > 1:
                shared.add(name)
        if embedding in operator.outputs:
            current = after
    return before + after, {name for name, _ in (*before[-1:], *after[:1], *after[-1:])}, shared


def _exactly(name: str) -> str:
    """Return a pattern for this tensor alone; the quantizer matches names with a ``;`` after each."""
    return f"^{re.escape(name)};?$"
