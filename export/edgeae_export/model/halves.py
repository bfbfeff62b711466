"""From one Keras model, or two, to an encoder and a decoder."""

import math
from collections import Counter
from typing import Any

import keras

from edgeae_runtime.errors import Argument

from ..errors import ModelError
from .rebuild import graph_nodes, is_graph, rebuild, simplify
from .sampling import replace_sampling

THE_TWO = (Argument("encoder"), " and ", Argument("decoder"))
_SHAPE_ONLY = (
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Activation,
    keras.layers.BatchNormalization,
)


def split_model(
    model: Any, latent_layer: str | None = None, shape: tuple[int, ...] | None = None
) -> tuple[Any, Any]:
    """Split an autoencoder at its bottleneck: the narrowest tensor that every path runs through.

    Args:
        model: Functional or Sequential, or subclassed with the attributes ``encoder`` and ``decoder``.
        latent_layer: name of the layer whose output is the code, instead.
        shape: of a sample; needed where the halves of a subclassed model are subclassed too.

    Returns:
        Encoder and decoder, flat and simplified; a variational code is replaced by its mean.

    Raises:
        ModelError: no bottleneck, more than one, or no layer of that name; with the layers to choose from.
    """
    if not is_graph(model):
        encoder, decoder = getattr(model, "encoder", None), getattr(model, "decoder", None)
        if not isinstance(encoder, keras.Model) or not isinstance(decoder, keras.Model):
            raise ModelError(
                f"{model.name}: a subclassed model has no graph to split and this one has no `encoder` and "
                "`decoder`; pass both, with ",
                *THE_TWO,
            )
        return prepare_pair(encoder, decoder, shape)
    flat = simplify(rebuild(model, replace_sampling))
    if len(flat.inputs) != 1 or len(flat.outputs) != 1:
        raise ModelError(
            f"{model.name}: has {len(flat.inputs)} inputs and {len(flat.outputs)} outputs, an autoencoder "
            "has one of each; pass ",
            *THE_TWO,
        )
    _check_fixed(flat.inputs[0].shape[1:])
    code = _code_tensor(flat, latent_layer)
    return keras.Model(flat.inputs[0], code, name="encoder"), keras.Model(
        code, flat.outputs[0], name="decoder"
    )


def prepare_pair(encoder: Any, decoder: Any, shape: tuple[int, ...] | None = None) -> tuple[Any, Any]:
    """Return an encoder and a decoder simplified; of several outputs of an encoder, the mean is kept.

    Args:
        encoder: of any build.
        decoder: of any build.
        shape: of a sample; needed where the encoder is subclassed.

    Raises:
        ModelError: the two do not fit, or it is not clear which output is the code.
    """
    encoder = simplify(rebuild(_as_graph(encoder, shape), replace_sampling))
    outputs = keras.tree.flatten(encoder.output)
    code = outputs[0] if len(outputs) == 1 else _mean_output(encoder, outputs)
    encoder = keras.Model(encoder.inputs[0], code, name="encoder")
    _check_fixed(encoder.input_shape[1:])
    decoder = simplify(rebuild(_as_graph(decoder, encoder.output_shape[1:]), replace_sampling))
    decoder = keras.Model(decoder.inputs[0], keras.tree.flatten(decoder.output)[0], name="decoder")
    if tuple(encoder.output_shape[1:]) != tuple(decoder.input_shape[1:]):
        raise ModelError(
            f"the encoder gives {encoder.output_shape[1:]}, the decoder takes {decoder.input_shape[1:]}; "
            "pass two models that fit"
        )
    return encoder, decoder


def _as_graph(model: Any, shape: tuple[int, ...] | None) -> Any:
    """Return the model, a subclassed one as the only layer of a graph."""
    if is_graph(model):
        return model
    try:
        given = keras.Input(shape)
        return keras.Model(given, model(given))
    except Exception as error:  # whatever its code raises
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{model.name}: cannot be traced on samples of shape {shape}: {reason}") from error


def _check_fixed(shape: tuple[int | None, ...]) -> None:
    if None in shape:
        raise ModelError(f"the model's input {shape} has a free axis; build it with a fixed shape")


def _mean_output(encoder: Any, outputs: list[Any]) -> Any:
    """Return the output that is the code's mean: the one that occurs twice once sampling is replaced."""
    counts = Counter(id(tensor) for tensor in outputs)
    twice = [tensor for tensor in outputs if counts[id(tensor)] > 1]
    named = [t for t in outputs if {"mean", "mu"} & set(t._keras_history.operation.name.lower().split("_"))]
    for found in (twice[:1], named):
        if len(found) == 1:
            return found[0]
    names = ", ".join(tensor._keras_history.operation.name for tensor in outputs)
    raise ModelError(f"the encoder has {len(outputs)} outputs ({names}); pass one that gives the code alone")


def _code_tensor(flat: Any, latent_layer: str | None) -> Any:
    nodes = graph_nodes(flat)
    if latent_layer is not None:
        found = [node.output_tensors[0] for node in nodes if node.operation.name == latent_layer]
        if not found:
            names = ", ".join(node.operation.name for node in nodes)
            raise ModelError(f"{flat.name}: no layer {latent_layer!r}; its layers are {names}")
        if not _cuts(flat, nodes)[id(found[-1])]:
            raise ModelError(f"{flat.name}: a path runs past the layer {latent_layer!r}; choose another")
        return found[-1]
    cuts = _cuts(flat, nodes)
    inner = [node for node in nodes if node.output_tensors[0] not in (flat.inputs[0], flat.outputs[0])]
    candidates = [
        node for node in inner if len(node.output_tensors) == 1 and cuts[id(node.output_tensors[0])]
    ]
    sizes = {id(node): math.prod(node.output_tensors[0].shape[1:]) for node in candidates}
    input_size = math.prod(flat.inputs[0].shape[1:])
    narrow = [n for n in candidates if sizes[id(n)] == min(sizes.values()) < input_size]
    if not narrow:
        listed = ", ".join(f"{n.operation.name} {n.output_tensors[0].shape[1:]}" for n in inner)
        raise ModelError(
            f"{flat.name}: no tensor narrower than the input of {input_size} cuts every path from input to "
            "output (skip connections?); choose with ",
            Argument("latent_layer"),
            f" from: {listed}",
        )
    groups = _join_chains(narrow)
    if len(groups) > 1:
        listed = ", ".join(n.operation.name for n in narrow)
        raise ModelError(
            f"{flat.name}: more than one narrowest layer; choose with ",
            Argument("latent_layer"),
            f" from: {listed}",
        )
    return groups[0][-1].output_tensors[0]


def _cuts(flat: Any, nodes: list[Any]) -> dict[int, bool]:
    """Return for each tensor whether all paths from input to output run through it, by counting paths."""
    down: Counter[int] = Counter({id(flat.inputs[0]): 1})
    for node in nodes:
        for output in node.output_tensors:
            if node.input_tensors:
                down[id(output)] = sum(down[id(tensor)] for tensor in node.input_tensors)
    up: Counter[int] = Counter({id(flat.outputs[0]): 1})
    for node in reversed(nodes):
        ways = sum(up[id(output)] for output in node.output_tensors)
        for tensor in node.input_tensors:
            up[id(tensor)] += ways
    total = down[id(flat.outputs[0])]
    return {tensor: down[tensor] * up[tensor] == total for tensor in down}


def _join_chains(nodes: list[Any]) -> list[list[Any]]:
    """Group nodes that only reshape, activate or normalize what the one before them gave."""
    groups: list[list[Any]] = []
    for node in nodes:
        before = groups[-1][-1].output_tensors[0] if groups else None
        elementwise = isinstance(node.operation, _SHAPE_ONLY) or not getattr(node.operation, "weights", [])
        if before is not None and elementwise and node.input_tensors[0] is before:
            groups[-1].append(node)
        else:
            groups.append([node])
    return groups
