"""Whether encoder and decoder do what the model did, and which layer cannot be converted."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from edgeae_runtime import Input

from ..errors import ModelError
from ..source import Source
from .halves import THE_TWO
from .rebuild import graph_nodes

COMPARED_ROWS = 64
MOST_DIFFERENCE = 1e-4
"""Between a model and its simplified halves, as a share of the largest output."""


def check_same(models: tuple[Any, ...], source: Source) -> None:
    """Make sure that splitting and simplifying changed nothing.

    A model that is random at inference cannot be compared; its code was replaced by the mean.

    Args:
        models: as they came: one, or encoder and decoder.
        source: what was made of them.

    Raises:
        ModelError: the two give different reconstructions.
    """
    batch = source.scaler.scale(source.rows[:COMPARED_ROWS]).reshape(-1, *source.encoder.input_shape[1:])

    def original() -> Any:
        values: Any = batch
        for model in models:
            values = keras.tree.flatten(model(values, training=False))
            values = values[0] if len(values) == 1 else values[-1]
        return np.asarray(values)

    before = original()
    if not np.array_equal(before, original()):
        return
    after = np.asarray(source.decoder(source.encoder(batch, training=False), training=False))
    if after.shape != before.shape:
        raise ModelError(
            f"the model gives {before.shape[1:]} per sample, its two halves give {after.shape[1:]}"
        )
    difference, scale = float(np.abs(after - before).max()), float(np.abs(before).max()) or 1.0
    if not difference <= MOST_DIFFERENCE * scale:
        raise ModelError(
            f"encoder and decoder, simplified, differ from the model by {difference:.3g} (its outputs reach "
            f"{scale:.3g}); pass them yourself, with ",
            *THE_TWO,
        )


def find_unconvertible(source: Source, convert: Callable[[Source], object]) -> str | None:
    """Return which layer a converter refuses, trying each one alone; None where all pass.

    Args:
        source: an autoencoder that could not be converted.
        convert: raises where it cannot convert a source.
    """
    for model in (source.encoder, source.decoder):
        for layer in getattr(model, "layers", []):
            if isinstance(layer, keras.layers.InputLayer):
                continue
            (node, *_) = [n for n in graph_nodes(model) if n.operation is layer] or [None]
            if node is None or len(node.input_tensors) != 1:
                continue
            given = keras.Input(batch_shape=node.input_tensors[0].shape)
            size = math.prod(given.shape[1:])
            try:
                alone = keras.Model(given, layer(given))
                back = keras.Input(alone.output_shape[1:])
                decoder = keras.Model(back, keras.layers.Reshape(given.shape[1:])(_resize(back, size)))
                convert(replace(source, encoder=alone, decoder=decoder, input=Input(shape=given.shape[1:])))
            except Exception:  # whatever it is, this layer is what it is about
                return f"the layer {layer.name!r} ({type(layer).__name__})"
    return None


def _resize(tensor: Any, size: int) -> Any:
    """Return a flat tensor of ``size`` values made of these, however many there are."""
    return keras.layers.Dense(size)(keras.layers.Flatten()(tensor))
