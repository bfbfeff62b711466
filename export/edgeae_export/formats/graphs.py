"""The three functions that a bundle holds, in TensorFlow: raw units in, raw units out.

Scaling and the error stay in float around the network's own layers. Both converters start from these
functions, so ONNX and TFLite files say the same.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from edgeae_runtime import Floats, Input, Scaler
from edgeae_runtime.names import Role

from ..model.rebuild import unroll
from ..source import Source

CLIP = 1e6
"""In scaled units. TFLite's converter folds a scaler into the weights of the layer beside it, after which the
raw values are what gets quantized and the error moves by several hundred percent. A clip between the two
stops it; no reading of a fitted scaler comes near this bound."""


def unrolled(source: Source, *kinds: type) -> Source:
    """Return the autoencoder with its recurrent layers unrolled; see `edgeae_export.model.rebuild.unroll`."""
    return replace(source, encoder=unroll(source.encoder, *kinds), decoder=unroll(source.decoder, *kinds))


def role_function(source: Source, role: Role, *, clip: bool) -> Callable[[Any], dict[str, Any]]:
    """Return the `tf.function` of one role, with named input and outputs and a free batch axis.

    Args:
        source: the autoencoder.
        role: see the bundle's contract.
        clip: whether to keep the scaler apart from the first layer; see `CLIP`.
    """
    encoder, decoder = source.encoder, source.decoder
    sample_shape = tuple(encoder.input_shape[1:])
    code_shape = tuple(decoder.input_shape[1:])
    code_size = int(np.prod(code_shape))
    offset, gain = _scaler_arrays(source.scaler, source.input, sample_shape)

    def scale(raw: Any) -> Any:
        centred = raw - offset if offset.any() else raw
        return centred * gain if (gain != 1).any() else centred

    def encode(scaled: Any) -> Any:
        code = encoder(tf.clip_by_value(scaled, -CLIP, CLIP) if clip else scaled, training=False)
        return code if len(code_shape) == 1 else tf.reshape(code, [-1, code_size])

    def decode(code: Any) -> Any:
        shaped = code if len(code_shape) == 1 else tf.reshape(code, [-1, *code_shape])
        return decoder(shaped, training=False)

    def encoder_role(input: Any) -> dict[str, Any]:
        return {"embedding": encode(scale(input))}

    def decoder_role(embedding: Any) -> dict[str, Any]:
        scaled = decode(embedding)
        if clip:
            scaled = tf.clip_by_value(scaled, -CLIP, CLIP)
        return {"reconstruction": scaled * (1 / gain) + offset}

    def scorer_role(input: Any) -> dict[str, Any]:
        scaled = scale(input)
        embedding = encode(scaled)
        squared = tf.math.squared_difference(scaled, decode(embedding))
        return {
            "embedding": embedding,
            "error": tf.reduce_mean(squared, axis=list(range(1, len(squared.shape)))),
        }

    def autoencoder_role(input: Any) -> dict[str, Any]:
        embedding = encode(input)
        return {"embedding": embedding, "reconstruction": decode(embedding)}

    function = {
        "encoder": encoder_role,
        "decoder": decoder_role,
        "scorer": scorer_role,
        "autoencoder": autoencoder_role,
    }[role]
    name, shape = ("embedding", (code_size,)) if role == "decoder" else ("input", sample_shape)
    signature = [tf.TensorSpec([None, *shape], tf.float32, name=name)]
    traced: Callable[[Any], dict[str, Any]] = tf.function(function, input_signature=signature)
    return traced


def _scaler_arrays(scaler: Scaler, sample: Input, tensor_shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return offset and gain in a shape that fits the network's own input, which may be flat."""

    def fit(values: tuple[float, ...]) -> Floats:
        array = np.asarray(values, np.float32)
        if array.size == 1 or tensor_shape == sample.shape:
            return array
        return np.ascontiguousarray(np.broadcast_to(array, sample.shape)).reshape(tensor_shape)

    return fit(scaler.offset), fit(scaler.gain)
