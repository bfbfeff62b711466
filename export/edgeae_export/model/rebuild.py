"""Rebuilding a Keras model without changing what it computes, so that it converts and quantizes well.

A rebuilt model is one flat graph. Layers that do nothing at inference are gone, each BatchNormalization
that follows a linear layer is folded into it, bias included, and recurrent layers can be unrolled.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
from keras.src.models.functional import Functional  # not exported, and a subclass is no graph

Replacement: TypeAlias = Callable[[Any], Callable[..., Any]]
"""From a layer of the old graph to what is called in its place."""

_TRAINING_ONLY = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.AlphaDropout,
    keras.layers.ActivityRegularization,
    keras.layers.Identity,
)
_CHANNELS_LAST = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D)
_TRANSPOSED_CONVOLUTIONS = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose)
RECURRENT = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)


def is_graph(model: Any) -> bool:
    """Whether a model is Functional or Sequential, so that its layers can be walked."""
    return _functional(model) is not None


def rebuild(model: Any, replace: Replacement = lambda layer: layer) -> Any:
    """Return a flat Functional model of the same layers, nested models inlined.

    Args:
        model: Functional or Sequential.
        replace: what to call in place of a layer; the same layer where it is not changed.
    """
    names: set[str] = set()
    replaced: dict[int, Callable[..., Any]] = {}

    def operation(layer: Any) -> Callable[..., Any]:
        inner = _functional(layer)
        if inner is not None:
            return lambda inputs, **_: inner._run_through_graph(inputs, operation)
        if id(layer) not in replaced:
            new = replace(layer)
            if isinstance(new, keras.layers.Layer) and new.name in names:  # two nested models may share it
                new = copy_layer(new, name=f"{new.name}_{len(names)}")
            replaced[id(layer)] = new
            names.add(getattr(new, "name", ""))
        return replaced[id(layer)]

    functional = _functional(model)
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), functional._inputs_struct
    )
    return keras.Model(inputs, functional._run_through_graph(inputs, operation), name=model.name)


def graph_nodes(model: Any) -> list[Any]:
    """Return the nodes of a Functional model in the order in which they are computed."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in model._nodes_by_depth[depth]]


def copy_layer(layer: Any, /, **changes: Any) -> Any:
    """Return a new layer of the same settings but for ``changes``, with the same weights once built."""
    copy = layer.__class__.from_config({**layer.get_config(), **changes})
    if layer.built and layer.weights:
        copy.build(layer.get_build_config()["input_shape"])
        if len(copy.weights) == len(layer.weights):
            copy.set_weights(layer.get_weights())
    return copy


def simplify(model: Any) -> Any:
    """Return a model that gives the same at inference, made of fewer layers.

    Where the model is subclassed there is no graph to work on, and it is returned as it is.
    """
    if not is_graph(model):
        return model
    flat = rebuild(model, _drop)
    while folds := _find_folds(flat):  # behind a folded normalization there may be another one
        flat = _fold(flat, folds)
    return flat


def unroll(model: Any, *kinds: type) -> Any:
    """Return the model with its recurrent layers unrolled over time.

    TFLite cannot convert a loop whose batch is free, and ONNX has no fast operator for Keras's GRU.

    Args:
        model: left as it is.
        kinds: which layer classes; all recurrent ones if none is named.
    """
    wanted = kinds or RECURRENT
    if not is_graph(model) or not any(isinstance(layer, wanted) for layer in model._flatten_layers()):
        return model

    def unrolled(layer: Any) -> Any:
        if isinstance(layer, wanted):
            return copy_layer(layer, unroll=True)
        if isinstance(layer, keras.layers.Bidirectional) and isinstance(layer.forward_layer, wanted):
            both = {"layer": layer.forward_layer, "backward_layer": layer.backward_layer}
            return copy_layer(layer, **{name: _unrolled_config(half) for name, half in both.items()})
        return layer

    return rebuild(model, unrolled)


def _unrolled_config(layer: Any) -> Any:
    return keras.saving.serialize_keras_object(copy_layer(layer, unroll=True))


def _functional(model: Any) -> Any:
    """Return the graph behind a model, or None where it has none."""
    if isinstance(model, keras.Sequential):
        return model._functional  # private, but the only way to a Sequential's graph
    return model if isinstance(model, Functional) else None


def _pass(inputs: Any, **_: Any) -> Any:
    return inputs


def _drop(layer: Any) -> Callable[..., Any]:
    """Replace what does nothing at inference, and what Keras would do in many operations for one."""
    if isinstance(layer, _TRAINING_ONLY):
        return _pass
    if isinstance(layer, keras.layers.TimeDistributed) and isinstance(layer.layer, keras.layers.Dense):
        return lambda inputs, **_: layer.layer(inputs)
    if isinstance(layer, keras.layers.Normalization):
        return _normalize(layer)
    if isinstance(layer, (keras.layers.Flatten, keras.layers.Reshape)):
        return lambda inputs, **_: _reshape(inputs, layer)
    return layer  # type: ignore[no-any-return]  # Keras ships no types


def _normalize(layer: Any) -> Callable[..., Any]:
    """Return the layer as plain arithmetic; tf2onnx takes what it holds, which are no weights, for inputs."""
    mean = np.asarray(layer.mean)
    deviation = np.maximum(np.sqrt(np.asarray(layer.variance)), keras.config.epsilon()).astype(np.float32)
    if layer.invert:
        return lambda inputs, **_: inputs * deviation + mean
    return lambda inputs, **_: (inputs - mean) / deviation


def _reshape(inputs: Any, layer: Any) -> Any:
    """Reshape to a constant shape; Keras's own layers ask for the batch first, eight operations in ONNX."""
    shape = layer.compute_output_shape(inputs.shape)[1:]
    return layer(inputs) if None in shape else keras.ops.reshape(inputs, (-1, *shape))


def _find_folds(model: Any) -> list[tuple[Any, Any]]:
    """Return (BatchNormalization, layer before it) where one can be folded into the other."""
    nodes = graph_nodes(model)
    made_by = {id(tensor): node.operation for node in nodes for tensor in node.output_tensors}
    calls = Counter(id(node.operation) for node in nodes)
    reads = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    found = []
    for node in nodes:
        norm = node.operation
        if not isinstance(norm, keras.layers.BatchNormalization):
            continue
        (source,) = node.input_tensors
        producer = made_by[id(source)]
        if (
            isinstance(producer, _CHANNELS_LAST + _TRANSPOSED_CONVOLUTIONS)
            and calls[id(norm)] == calls[id(producer)] == reads[id(source)] == 1
            and producer.activation is keras.activations.linear
            and norm.axis in (-1, len(source.shape) - 1)
            and getattr(producer, "data_format", "channels_last") == "channels_last"
        ):
            found.append((norm, producer))
    return found


def _fold(flat: Any, folds: list[tuple[Any, Any]]) -> Any:
    """Return the model without these normalizations, done by the layers before them."""
    norms = {id(norm) for norm, _ in folds}
    norm_after = {id(producer): norm for norm, producer in folds}

    def fold(layer: Any) -> Callable[..., Any]:
        if id(layer) in norms:
            return _pass
        norm = norm_after.get(id(layer))
        new: Callable[..., Any] = layer if norm is None else _folded(layer, norm)
        return new

    return rebuild(flat, fold)


def _folded(layer: Any, norm: Any) -> Any:
    """Return a copy of a linear layer that does what it and the normalization after it did."""
    weights = {weight.path.rsplit("/", 1)[-1]: weight.numpy().astype(np.float64) for weight in norm.weights}
    deviation = np.sqrt(weights["moving_variance"] + norm.epsilon)
    factor = weights.get("gamma", 1.0) / deviation
    shift = weights.get("beta", 0.0) - weights["moving_mean"] * factor
    kernel = layer.kernel.numpy().astype(np.float64)
    bias = layer.bias.numpy().astype(np.float64) if layer.use_bias else 0.0
    kernel = kernel * (factor[:, np.newaxis] if isinstance(layer, _TRANSPOSED_CONVOLUTIONS) else factor)
    folded = copy_layer(layer, use_bias=True)
    folded.set_weights([kernel.astype(np.float32), (bias * factor + shift).astype(np.float32)])
    return folded
