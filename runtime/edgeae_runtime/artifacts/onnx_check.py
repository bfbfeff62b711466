"""Checks of an ONNX model before ONNX Runtime sees its bytes.

Whoever can put a bundle where a device reads it can make its hashes right, so hashes say nothing of intent.
Data in another file would read the device's own ones: the model's outputs could spell them. What can hold
graphs of its own (control flow, functions) could hide such data, or never end; no exported model has it.
"""

from .onnx_file import Node, OnnxModel, read_model
from .onnx_tensor import Tensor

OPERATORS = {"com.microsoft": {"DynamicQuantizeLSTM"}}
"""Operators that are allowed besides ONNX's own, by domain: those that `edgeae export` makes."""

SIZES_IN = {
    **dict.fromkeys(("Expand", "OneHot", "Pad", "Range", "Tile"), (1,)),
    **{"ConstantOfShape": (0,), "Resize": (2, 3), "Upsample": (1,)},
}
"""By operator the inputs whose values are sizes of its output, or factors."""

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
    constants = dict(model.initializers)
    for node in model.nodes:
        value = node.attributes.get("value")
        if node.op_type == "Constant" and isinstance(value, Tensor) and node.outputs:
            constants[node.outputs[0]] = value
    for node in model.nodes:
        for position in SIZES_IN.get(node.op_type, ()):
            tensor = constants.get(node.inputs[position]) if position < len(node.inputs) else None
            if tensor is not None and not _product(tensor) <= MAX_ENTRIES:  # NaN is not either
                return f"an operator {node.op_type!r} that makes a tensor of more than {MAX_ENTRIES} values"
    return None


def _product(sizes: Tensor) -> float:
    """Return the product of a constant's values, each at least 1."""
    product = 1.0
    for value in sizes.array().ravel()[:1000].tolist():  # no tensor has as many axes
        product *= max(1.0, abs(float(value)))
    return product


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
