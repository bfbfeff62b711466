"""ONNX artifacts: conversion by tf2onnx."""

from typing import Any

import keras
import numpy as np
import onnx
import tf2onnx

from edgeae_runtime.names import Role

from ..source import Source
from .canonical import canonicalize
from .graphs import role_function, unrolled

OPSET = 17
"""Every onnxruntime since 1.12 runs it."""

LAYERS = ["MatMul", "Gemm", "Conv", "ConvTranspose"]
"""Operators that are quantized. The scaler, the activations and the error stay in float."""


def convert(source: Source, role: Role) -> bytes:
    """Return the float32 ONNX model of a role."""
    function: Any = role_function(
        unrolled(source, keras.layers.GRU, keras.layers.SimpleRNN), role, clip=False
    )
    model, _ = tf2onnx.convert.from_function(
        function,
        input_signature=function.input_signature,
        opset=OPSET,
        custom_op_handlers={"Erfc": (_erfc, [])},
    )
    return finish(model)


def _erfc(graph: Any, node: Any, name: str, _: list[Any]) -> None:
    """Write TensorFlow's erfc, which gelu uses and ONNX lacks, as 1 - erf."""
    node.type = "Erf"
    one = graph.make_const(f"{name}_one", np.ones(1, np.float32))
    last = graph.insert_new_node_on_output("Sub", node.output[0])
    last.input[:] = [one.output[0], node.output[0]]


def finish(model: onnx.ModelProto) -> bytes:
    """Name the batch axis, drop what only describes the machine that made it, and serialize."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    canonicalize(model.graph)
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
