"""TFLite artifacts: conversion by TensorFlow's converter, quantization by ai-edge-quantizer.

The converter can only quantize a whole graph, and a reconstruction error does not survive that. The
quantizer works by operator and by name, so the scaler and the error stay in float.
"""

import re
import tempfile
from typing import Any

import tensorflow as tf
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import qtyping, quantizer
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from edgeae_runtime._manifest import TENSORS, Floats, Role

from ._graphs import role_function
from ._source import Source

SIGNATURE = "serving_default"


def convert(source: Source, role: Role) -> bytes:
    """Return the float32 TFLite model of a role: built-in operators only, one signature."""
    function: Any = role_function(source, role, clip=True)
    concrete = function.get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete)  # else the weights become resource variables
    names = sorted(concrete.structured_outputs)  # the order in which freezing flattens a dictionary
    (spec,) = function.input_signature
    module = tf.Module()
    module.call = tf.function(
        lambda **inputs: dict(zip(names, frozen(inputs[spec.name]), strict=True)),
    )
    signature = module.call.get_concrete_function(**{spec.name: spec})
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={SIGNATURE: signature})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        return bytes(converter.convert())


def quantize(model: bytes, role: Role, calibration: Floats) -> bytes:
    """Return the int8 twin of a float32 model.

    Weights are int8 per channel. Activations are int8 with calibrated ranges, except where rounding
    would go straight into the embedding or the reconstruction: the layers before and after the code and
    the last one take their input's range at run time and leave their output in float.

    Args:
        model: from `convert`.
        role: of the model.
        calibration: rows for the model's input, (n, *shape).
    """
    session = quantizer.Quantizer(model)
    dense = qtyping.TFLOperationName.FULLY_CONNECTED
    layers, exposed = _layers(model, role)
    for name in layers:
        if name in exposed:
            session.add_dynamic_config(_exactly(name), dense, num_bits=8)
        else:
            session.add_static_config(_exactly(name), dense, activation_num_bits=8, weight_num_bits=8)
    rows = {SIGNATURE: [{TENSORS[role][0]: calibration}]}
    return bytes(
        session.quantize(session.calibrate(rows) if session.need_calibration else None).quantized_model
    )


def _layers(model: bytes, role: Role) -> tuple[list[str], set[str]]:
    """Return the fully-connected layers by output tensor in order of execution, and the exposed ones."""
    content: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    (graph,) = content.subgraphs
    embedding = next(
        (o.tensorIndex for o in content.signatureDefs[0].outputs if o.name == b"embedding"), None
    )
    before: list[str] = []
    after: list[str] = []
    current = after if role == "decoder" else before
    for operator in graph.operators:
        if content.operatorCodes[operator.opcodeIndex].builtinCode == qtyping.BuiltinOperator.FULLY_CONNECTED:
            current.append(graph.tensors[operator.outputs[0]].name.decode())
        if embedding in operator.outputs:
            current = after
    return before + after, {*before[-1:], *after[:1], *after[-1:]}


def _exactly(name: str) -> str:
    """Return a pattern for this tensor alone; the quantizer matches names with a ``;`` after each."""
    return f"^{re.escape(name)};?$"
