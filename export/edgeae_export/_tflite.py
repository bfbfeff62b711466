"""TFLite artifacts: conversion by TensorFlow's converter, quantization by ai-edge-quantizer.

The converter can only quantize a whole graph, and a reconstruction error does not survive that. The
quantizer works by operator and by name, so the scaler and the error stay in float.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import algorithm_manager, qtyping, quantizer
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from edgeae_runtime import Recipe
from edgeae_runtime._manifest import TENSORS, Floats, Role

from ._compact import compact
from ._graphs import role_function, unrolled
from ._source import Source

SIGNATURE = "serving_default"

_KINDS = {
    qtyping.BuiltinOperator.FULLY_CONNECTED: qtyping.TFLOperationName.FULLY_CONNECTED,
    qtyping.BuiltinOperator.CONV_2D: qtyping.TFLOperationName.CONV_2D,
    qtyping.BuiltinOperator.DEPTHWISE_CONV_2D: qtyping.TFLOperationName.DEPTHWISE_CONV_2D,
    qtyping.BuiltinOperator.TRANSPOSE_CONV: qtyping.TFLOperationName.CONV_2D_TRANSPOSE,
}
"""What is quantized. The scaler, the activations and the error stay in float."""


def convert(source: Source, role: Role) -> bytes:
    """Return the float32 TFLite model of a role: built-in operators only, one signature."""
    with _converter(role_function(unrolled(source), role, clip=True)) as converter:
        return bytes(converter.convert())


def convert_int8(source: Source, calibration: Floats) -> bytes:
    """Return the bare autoencoder for microcontrollers: every tensor int8, input and outputs too.

    Args:
        source: the autoencoder, its weights rounded already.
        calibration: rows in scaled units, (n, *input shape of the encoder).
    """
    with _converter(role_function(unrolled(source), "autoencoder", clip=False)) as converter:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ({"input": row[np.newaxis]} for row in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        return bytes(converter.convert())


@contextmanager
def _converter(function: Any) -> Iterator[Any]:
    """Yield TensorFlow's converter for a function, as one signature with named tensors."""
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
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)  # silu's cannot be saved
        tf.saved_model.save(module, folder, signatures={SIGNATURE: signature}, options=options)
        yield tf.lite.TFLiteConverter.from_saved_model(folder)


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
