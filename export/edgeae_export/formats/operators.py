"""Which operators a model file uses: what another engine, or a microcontroller, must have."""

from typing import Any

from edgeae_runtime.artifacts import read_model
from edgeae_runtime.names import Format


def operators_of(content: bytes, file_format: Format) -> tuple[str, ...]:
    """Return the names of a file's operators, each once, sorted; none of C source.

    An ONNX operator of another domain than ONNX's own is ``domain:name``.
    """
    if file_format == "onnx":
        nodes = read_model(content).nodes
        return tuple(sorted({f"{n.domain}:{n.op_type}" if n.domain else n.op_type for n in nodes}))
    return _tflite(content) if file_format == "tflite" else ()


def _tflite(content: bytes) -> tuple[str, ...]:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    # old files have the operator's number in a field of one byte, new ones in both
    numbers = {max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes}
    return tuple(sorted(names.get(number, str(number)) for number in numbers))
