"""What an ONNX model must not do, checked before ONNX Runtime sees its bytes.

Whoever can put a bundle where a device reads it can make its hashes right, so hashes say nothing of intent.
Data in another file would read the device's own ones: the model's outputs could spell them. What can hold
graphs of its own (control flow, functions) could hide such data, or never end; no exported model has it.
"""

from ._onnx_file import Node, OnnxModel, read_model

OPERATORS = {"com.microsoft": {"DynamicQuantizeLSTM"}}
"""What is allowed besides ONNX's own operators, by domain: what `edgeae export` makes."""

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
    return next(filter(None, map(_refused_of, model.nodes)), None)


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
