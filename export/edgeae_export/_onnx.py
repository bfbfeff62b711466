"""ONNX artifacts: conversion by tf2onnx, static quantization by ONNX Runtime."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import tf2onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeae_runtime._manifest import TENSORS, Floats, Role

from ._graphs import role_function
from ._source import Source

OPSET = 17
"""Every onnxruntime since 1.13 runs it."""

LAYERS = ["MatMul", "Gemm", "Conv", "ConvTranspose"]
"""What is quantized. The scaler, the activations and the error stay in float."""

CALIBRATION_BATCH = 128


def convert(source: Source, role: Role) -> bytes:
    """Return the float32 ONNX model of a role."""
    function: Any = role_function(source, role, clip=False)
    model, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    return _finish(model)


def quantize(model: bytes, role: Role, calibration: Floats) -> bytes:
    """Return the int8 twin of a float32 model: QDQ, weights per channel, activations unsigned.

    A layer's output is left in float where the next operation is not a layer, which halves the damage
    and is no slower. The code is left in float too: it has few values, and all of the reconstruction
    hangs on them.

    Args:
        model: from `convert`.
        role: of the model.
        calibration: rows for the model's input, (n, *shape).
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder, "prepared.onnx"), Path(folder, "quantized.onnx")
        # symbolic shapes need sympy and serve transformers; what is wanted here is the fusion to Gemm
        quant_pre_process(onnx.load_from_string(model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantized),
            _Rows(TENSORS[role][0], calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=LAYERS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"OpTypesToExcludeOutputQuantization": LAYERS},
        )
        result = onnx.load(str(quantized))
    _round_only_into_layers(result.graph)
    return _finish(result)


def _round_only_into_layers(graph: onnx.GraphProto) -> None:
    """Let everything but a layer read its tensors unrounded, and the layer behind the code too.

    The quantizer sends all readers of a layer's input through the rounding, the error among them: it
    would compare the reconstruction with a rounded input, clipped to the range seen in calibration.
    """
    rounding = {n.output[0]: n for n in graph.node if n.op_type == "QuantizeLinear"}
    restoring = {
        n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in rounding
    }
    original = {name: rounding[node.input[0]].input[0] for name, node in restoring.items()}
    code = {"embedding", original.get("embedding")}
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in original and (node.op_type not in LAYERS or original[name] in code):
                node.input[i] = original[name]
    renamed = {original[o.name]: o.name for o in graph.output if o.name in original}
    read = {name for node in graph.node for name in node.input} - set(renamed)
    unread = [n for name, n in restoring.items() if name not in read]
    for node in (*unread, *(rounding[n.input[0]] for n in unread)):
        graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    read = {name for node in graph.node for name in node.input}
    for constant in [c for c in graph.initializer if c.name not in read]:
        graph.initializer.remove(constant)


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Feeds the calibration rows in batches, which bounds the calibrator's memory."""

    def __init__(self, name: str, rows: Floats) -> None:
        self._batches: Iterator[dict[str, Floats]] = (
            {name: rows[i : i + CALIBRATION_BATCH]} for i in range(0, len(rows), CALIBRATION_BATCH)
        )

    def get_next(self) -> dict[str, Floats] | None:
        return next(self._batches, None)


def _finish(model: onnx.ModelProto) -> bytes:
    """Name the batch axis, drop what only describes the machine that made it, and serialize."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    del model.metadata_props[:]
    model.graph.name = "edgeae"
    model.graph.doc_string = model.doc_string = ""
    used = {node.domain for node in model.graph.node}
    for opset in [o for o in model.opset_import if o.domain not in used]:
        model.opset_import.remove(opset)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
