"""TFLite artifacts: conversion by TensorFlow's converter."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from edgeae_runtime import Floats
from edgeae_runtime.names import Role

from ..source import Source
from .graphs import role_function, unrolled

SIGNATURE = "serving_default"


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
