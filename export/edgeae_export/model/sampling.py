"""A variational encoder's random draw, replaced by its mean."""

import math
from typing import Any

import keras
import numpy as np

from edgeae_runtime.errors import Argument

from ..errors import ModelError

SAMPLES = 400
"""Times that a random layer is called to find its mean."""

MOST_DEVIATIONS = 6.0
"""Most standard errors between the average of the samples and the mean."""


def replace_sampling(layer: Any) -> Any:
    """Replace a layer that is random at inference by the input that is its mean.

    Raises:
        ModelError: the layer is random, and its mean is none of its inputs.
    """
    nodes = getattr(layer, "_inbound_nodes", [])
    if not isinstance(layer, keras.layers.Layer) or not nodes or isinstance(layer, keras.layers.InputLayer):
        return layer
    shapes = [tensor.shape for tensor in nodes[-1].input_tensors]
    if (
        layer.weights
        or not shapes
        or any(shape[1:] != nodes[-1].output_tensors[0].shape[1:] for shape in shapes)
    ):
        return layer
    random = np.random.default_rng(0)
    inputs = [random.normal(size=(1, *shape[1:])).astype(np.float32) for shape in shapes]
    try:
        samples = np.stack([_call(layer, nodes[-1], inputs) for _ in range(3)])
    except Exception:  # a layer that wants other values than these is none that samples around a mean
        return layer
    if (samples == samples[0]).all():
        return layer
    samples = np.stack([_call(layer, nodes[-1], inputs) for _ in range(SAMPLES)]).astype(np.float64)
    error = samples.std(axis=0) / math.sqrt(SAMPLES)
    for i, value in enumerate(inputs):
        if (np.abs(samples.mean(axis=0) - value) <= MOST_DEVIATIONS * error + 1e-6).all():
            return lambda *given, _index=i, **_: keras.tree.flatten(given)[_index]
    raise ModelError(
        f"the layer {layer.name!r} gives something else at every call and its mean is none of its inputs; "
        "pass as ",
        Argument("encoder"),
        " one that gives the same code every time",
    )


def _call(layer: Any, node: Any, values: list[Any]) -> Any:
    """Call a layer as the graph does, with these values for its inputs."""
    given = {id(tensor): value for tensor, value in zip(node.input_tensors, values, strict=True)}
    args, kwargs = keras.tree.map_structure(
        lambda x: given.get(id(x), x), (node.arguments.args, node.arguments.kwargs)
    )
    return np.asarray(
        layer(*args, **{**kwargs, "training": False} if layer._call_has_training_arg else kwargs)
    )
