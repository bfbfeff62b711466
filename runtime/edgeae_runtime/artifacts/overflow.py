"""Whether an ONNX file's int8 sums fit on every processor: a property of its weights.

On AVX2, and on AVX-512 without VNNI, ONNX Runtime adds two products of an unsigned activation and a signed
weight in 16 bits, which saturate at 32,767: 255 * (64 + 64) fits, 255 * (65 + 64) does not. Which two weights
of an output channel meet is up to the kernel; two of opposite signs never add up to too much.
"""

import numpy as np

from .onnx_file import Node, OnnxModel, read_model

LARGEST_PAIR = 128
"""Largest sum of the two largest weights of a sign in a channel: 255 * 128 <= 32,767."""

_INT8 = 3  # of TensorProto.DataType
_WEIGHTS = {
    "MatMul": (1,),
    "Gemm": (1,),
    "Conv": (1,),
    "ConvTranspose": (1,),
    "MatMulInteger": (1,),
    "ConvInteger": (1,),
    "QLinearMatMul": (3,),
    "QLinearConv": (3,),
    "QGemm": (3,),
    "MatMulIntegerToFloat": (1,),
    "DynamicQuantizeMatMul": (1,),
    "DynamicQuantizeLSTM": (1, 2),
}
"""Positions of an operator's inputs that are weights."""
_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv")


def overflowing_weights(content: bytes) -> list[str]:
    """Return the int8 weights of an ONNX model with which a sum can saturate without VNNI, by name.

    Raises:
        ValueError: the model cannot be read.
    """
    model = read_model(content)
    restored = {
        node.outputs[0]: node.inputs[0]
        for node in model.nodes
        if node.op_type == "DequantizeLinear" and node.inputs and node.outputs
    }
    found: dict[str, None] = {}  # in order, each once
    for node in model.nodes:
        for place in _WEIGHTS.get(node.op_type, ()):
            name = node.inputs[place] if place < len(node.inputs) else ""
            name = restored.get(name, name)
            if _overflows(model, name, node):
                found[name] = None
    return list(found)


def _overflows(model: OnnxModel, name: str, node: Node) -> bool:
    tensor = model.initializers.get(name)
    if tensor is None or tensor.data_type != _INT8 or not tensor.dims:
        return False
    weights = np.moveaxis(tensor.array().astype(np.int16), _channel_axis(node, len(tensor.dims)), -1)
    channels = weights.reshape(-1, weights.shape[-1])
    return any(_largest_pair(side) > LARGEST_PAIR for side in (channels, -channels))


def _channel_axis(node: Node, axes: int) -> int:
    if node.op_type in ("Gemm", "QGemm"):
        return 0 if node.attributes.get("transB") else axes - 1
    return 0 if node.op_type in _CONVOLUTIONS else 1 if node.op_type == "ConvTranspose" else axes - 1


def _largest_pair(channels: np.ndarray) -> int:
    """Return the largest sum of two weights above zero in a column."""
    largest = np.sort(np.maximum(channels, 0), axis=0)[-2:]
    return int(largest.sum(axis=0).max(initial=0))
