"""Checks of an ONNX model before ONNX Runtime sees its bytes.

Whoever can put a bundle where a device reads it can make its hashes right, so hashes say nothing of intent.
Data in another file would read the device's own ones: the model's outputs could spell them. What can hold
graphs of its own (control flow, functions) could hide such data, or never end; no exported model has it.
"""

import math

from .onnx_file import Node, OnnxModel, read_model
from .onnx_tensor import Tensor

OPERATORS = {"com.microsoft": {"DynamicQuantizeLSTM"}}
"""Operators that are allowed besides ONNX's own, by domain: those that `edgeae export` makes."""

SIZES_IN = {
    **dict.fromkeys(("Expand", "OneHot", "Pad", "Tile"), (1,)),
    **{"ConstantOfShape": (0,), "Resize": (1, 2, 3), "Upsample": (1,)},
}
"""By operator the inputs whose values are sizes of its output, or factors."""

SIZES_OF = {"Pad": "pads", "Upsample": "scales"}
"""By operator the attribute that says so in old operator sets."""

_GIVEN = ("value_int", "value_ints", "value_float", "value_floats")
"""Attributes of a ``Constant`` that hold numbers, besides the tensor ``value``."""

MAX_ENTRIES = 2**26
"""Most values of a tensor whose sizes are a constant's values."""

_ONNX = ("", "ai.onnx")


def check_onnx(content: bytes) -> None:
    """Refuse a model that reaches outside of its bytes, or may hide that it does.

    Raises:
        ValueError: it does, or cannot be read.
    """
    model = read_model(content)
    refused = _refused(model)
    if refused:
        raise ValueError(f"the ONNX model has {refused}, which is refused; export the bundle again")


def _refused(model: OnnxModel) -> str | None:
    for tensor in model.initializers.values():
        if tensor.has_external_data:
            return f"a constant {tensor.name!r} in another file"
    for has, what in (
        (model.has_functions, "functions of its own"),
        (model.has_sparse, "sparse constants"),
        (model.has_training, "a part for training"),
    ):
        if has:
            return what
    return next(filter(None, map(_refused_of, model.nodes)), None) or _too_large(model)


def _too_large(model: OnnxModel) -> str | None:
    """Look at constants that are sizes: they make a tensor of any size from a few bytes."""
    constants: dict[str, Tensor | list[float]] = dict(model.initializers)
    for node in model.nodes:  # in an order in which each follows what it needs, as ONNX wants it
        found = _constant(node, constants)
        if found is not None and node.outputs:
            constants[node.outputs[0]] = found
    for node in model.nodes:
        sizes = [
            constants.get(node.inputs[i]) for i in SIZES_IN.get(node.op_type, ()) if i < len(node.inputs)
        ]
        given = node.attributes.get(SIZES_OF.get(node.op_type, ""))
        if isinstance(given, tuple):
            sizes.append([float(value) for value in given if isinstance(value, int | float)])
        products = [_product(found) for found in sizes if found is not None]
        if node.op_type == "Range":
            products.append(_steps([constants.get(name) for name in node.inputs]))
        if not all(product <= MAX_ENTRIES for product in products):  # NaN is not either
            return f"an operator {node.op_type!r} that makes a tensor of more than {MAX_ENTRIES} values"
    return None


def _constant(node: Node, constants: dict[str, Tensor | list[float]]) -> Tensor | list[float] | None:
    """Return what a node gives where that is a constant, or one of another type or name."""
    if node.op_type in ("Identity", "Cast") and node.inputs:
        return constants.get(node.inputs[0])
    if node.op_type != "Constant":
        return None
    value = node.attributes.get("value")
    if isinstance(value, Tensor):
        return value
    numbers: list[float] = []
    for name in _GIVEN:
        given = node.attributes.get(name)
        for each in given if isinstance(given, tuple) else (given,):
            if isinstance(each, int | float):
                numbers.append(float(each))
    return numbers


def _numbers(constant: Tensor | list[float]) -> list[float]:
    values = constant if isinstance(constant, list) else constant.array().ravel()[:1000].tolist()
    return [float(value) for value in values[:1000]]  # no tensor has as many axes


def _product(sizes: Tensor | list[float]) -> float:
    """Return the product of a constant's values, each at least 1."""
    product = 1.0
    for value in _numbers(sizes):
        product *= max(1.0, abs(value))
    return product


def _steps(range_inputs: list[Tensor | list[float] | None]) -> float:
    """Return how many values a ``Range`` of constants has; 0 where they are not all known."""
    known = [_numbers(found) for found in range_inputs if found is not None]
    if len(known) != 3 or not all(known):
        return 0.0
    start, limit, delta = (numbers[0] for numbers in known)
    return abs((limit - start) / delta) if delta else math.inf


def _refused_of(node: Node) -> str | None:
    called = f"operator {node.op_type!r}"
    if node.has_external_data:
        return f"an {called} with a constant in another file"
    if node.has_subgraph:
        return f"an {called} with a graph inside"
    if node.has_sparse:
        return f"an {called} with a sparse constant"
    if node.domain not in _ONNX and node.op_type not in OPERATORS.get(node.domain, ()):
        return f"an {called} of domain {node.domain!r}"
    return None
