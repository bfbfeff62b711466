"""An ONNX model's bytes read without the onnx package: nodes, constants, and what reaches outside the file.

The encoding is protobuf's (https://protobuf.dev/programming-guides/encoding), field numbers are those of
ONNX's onnx.proto. Nothing is trusted: a length that leaves its message, a number that does not end and a
model of too many parts are a ValueError. As protobuf does it, fields of an unknown number or of another wire
type are skipped, and of a field given twice the last counts; but a message given twice, which protobuf would
merge, is refused.
"""

from collections.abc import Iterator, Sequence
from struct import unpack_from
from typing import TypeAlias

import msgspec

from .onnx_tensor import Tensor

MAX_FIELDS = 1_000_000
"""Most fields that are looked at; exported models have some thousands."""

MAX_VALUES = 65_536
"""Most numbers in one attribute, and axes of one constant."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_GRAPH, _GRAPHS = 5, 10  # AttributeProto.AttributeType

Value: TypeAlias = (
    "int | float | bytes | Tensor | tuple[int, ...] | tuple[float, ...] | tuple[bytes, ...]"
    " | tuple[Tensor, ...] | None"
)
"""An attribute's; None stands for a subgraph, a sparse tensor, a type, and what a newer ONNX may bring."""


class Node(msgspec.Struct):
    """One operation."""

    op_type: str = ""
    domain: str = ""
    name: str = ""
    inputs: list[str] = []
    """Names; empty where an optional one is left out."""
    outputs: list[str] = []
    attributes: dict[str, Value] = {}
    has_subgraph: bool = False
    """Whether an attribute is a graph, as in ``If``, ``Loop`` and ``Scan``."""
    has_sparse: bool = False
    """Whether an attribute is a sparse tensor."""
    has_external_data: bool = False
    """Whether an attribute is a tensor whose values are, or may be, in another file."""


class OnnxModel(msgspec.Struct):
    """Result of `read_model`; graphs inside of nodes, functions and training are noted, not read."""

    nodes: list[Node] = []
    initializers: dict[str, Tensor] = {}
    """The constants by name."""
    inputs: list[str] = []
    """Names of the graph's inputs; old models name their constants too."""
    outputs: list[str] = []
    opsets: dict[str, int] = {}
    """Version by domain; ``""`` is ONNX's own."""
    has_graph: bool = False
    has_functions: bool = False
    has_sparse: bool = False
    """Whether a constant is a sparse tensor."""
    has_training: bool = False


def read_model(content: bytes) -> OnnxModel:
    """Read an ONNX model's bytes (a ModelProto). Large payloads are skipped, not copied.

    Raises:
        ValueError: damaged, or of too many parts (`MAX_FIELDS`, `MAX_VALUES`).
    """
    try:
        return _Reader(content).model()
    except IndexError:
        raise ValueError("the ONNX model ends too early") from None


class _Reader:
    """Walks messages. Each method takes where its message starts and ends."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.left = MAX_FIELDS

    def fields(self, place: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield number, wire type and two more: a varint's value and 0, else where the payload is."""
        content = self.content
        while place < end:
            self.left -= 1
            tag = content[place]
            place += 1
            if tag > 127:
                tag, place = self.varint(place - 1, end)
            number, kind = tag >> 3, tag & 7
            if not 0 < number < 2**29 or self.left < 0:
                raise ValueError("the ONNX model is damaged or has too many parts")
            if kind == _VARINT:
                value, place = self.varint(place, end)
                yield number, kind, value, 0
                continue
            if kind == _BYTES:
                size = content[place]
                place += 1
                if size > 127:
                    size, place = self.varint(place - 1, end)
            elif kind in (_FIXED32, _FIXED64):
                size = 4 if kind == _FIXED32 else 8
            else:
                raise ValueError(f"the ONNX model is damaged: wire type {kind}")
            start, place = place, place + size
            if place > end:
                raise ValueError("the ONNX model is damaged: a part of it is longer than the whole")
            yield number, kind, start, place

    def varint(self, place: int, end: int) -> tuple[int, int]:
        """Return an unsigned 64-bit number and where it ends."""
        value = 0
        for position in range(place, min(end, place + 10)):
            byte = self.content[position]
            value |= (byte & 127) << 7 * (position - place)
            if byte < 128:
                return value & 2**64 - 1, position + 1
        raise ValueError("the ONNX model is damaged: a number does not end")

    def text(self, start: int, end: int) -> str:
        try:
            return self.content[start:end].decode()
        except UnicodeDecodeError:
            raise ValueError("the ONNX model is damaged: a name is not UTF-8") from None

    def model(self) -> OnnxModel:
        model = OnnxModel()
        for number, kind, first, last in self.fields(0, len(self.content)):
            if kind != _BYTES:
                continue
            if number == 7:
                _only_once("graph", model.has_graph)
                model.has_graph = True
                self.graph(model, first, last)
            elif number == 8:
                self.opset(model, first, last)
            model.has_training |= number == 20
            model.has_functions |= number == 25
        return model

    def opset(self, model: OnnxModel, start: int, end: int) -> None:
        domain, version = "", 0
        for number, kind, first, last in self.fields(start, end):
            if (number, kind) == (1, _BYTES):
                domain = self.text(first, last)
            elif (number, kind) == (2, _VARINT):
                version = _signed(first)
        model.opsets[domain] = version

    def graph(self, model: OnnxModel, start: int, end: int) -> None:
        for number, kind, first, last in self.fields(start, end):
            if kind != _BYTES:
                continue
            if number == 1:
                model.nodes.append(self.node(first, last))
            elif number == 5:
                tensor = self.tensor(first, last)
                _only_once(f"constant {tensor.name!r}", tensor.name in model.initializers)
                model.initializers[tensor.name] = tensor
            elif number in (11, 12):  # ValueInfoProto, whose field 1 is its name
                found = [self.text(a, b) for n, k, a, b in self.fields(first, last) if (n, k) == (1, _BYTES)]
                (model.inputs if number == 11 else model.outputs).append(found[-1] if found else "")
            model.has_sparse |= number == 15

    def node(self, start: int, end: int) -> Node:
        node = Node()
        for number, kind, first, last in self.fields(start, end):
            if kind != _BYTES:
                continue
            if number == 1:
                node.inputs.append(self.text(first, last))
            elif number == 2:
                node.outputs.append(self.text(first, last))
            elif number == 3:
                node.name = self.text(first, last)
            elif number == 4:
                node.op_type = self.text(first, last)
            elif number == 5:
                self.attribute(node, first, last)
            elif number == 7:
                node.domain = self.text(first, last)
        return node

    def attribute(self, node: Node, start: int, end: int) -> None:
        name, declared = "", 0
        found: dict[int, list[tuple[int, int, int]]] = {}  # by field number: wire type and payload
        for number, kind, first, last in self.fields(start, end):
            if (number, kind) == (1, _BYTES):
                name = self.text(first, last)
            elif (number, kind) == (20, _VARINT):
                declared = first & 2**32 - 1
            elif kind in _ATTRIBUTE_KINDS.get(number, ()):
                found.setdefault(number, []).append((kind, first, last))
        node.has_subgraph |= bool({6, 11} & found.keys()) or declared in (_GRAPH, _GRAPHS)
        node.has_sparse |= bool({22, 23} & found.keys()) or declared in (11, 12)
        _only_once(f"attribute {name!r}", name in node.attributes or len(found.get(5, ())) > 1)
        # old models do not declare a type; FLOAT to GRAPHS stand in the order of their fields
        known = declared + 1 if 0 < declared <= 10 else next((n for n in found if n < 12), 0)
        node.attributes[name] = self.value(known, found.get(known, []))
        for _, first, last in [*found.get(5, ()), *found.get(10, ())]:  # whatever its declared type
            node.has_external_data |= self.tensor(first, last).has_external_data

    def value(self, number: int, parts: list[tuple[int, int, int]]) -> Value:
        if number in (2, 7):
            floats = [f for _, a, b in parts for f in self.floats(a, b)]
            _only_so_many(floats)
            return tuple(floats) if number == 7 else floats[-1] if floats else 0.0
        if number in (3, 8):
            ints = [i for kind, a, b in parts for i in ([a] if kind == _VARINT else self.ints(a, b))]
            _only_so_many(ints)
            return tuple(map(_signed, ints)) if number == 8 else _signed(ints[-1]) if ints else 0
        if number in (4, 9):
            texts = [self.content[a:b] for _, a, b in parts]
            return tuple(texts) if number == 9 else texts[-1] if texts else b""
        if number in (5, 10):
            tensors = [self.tensor(a, b) for _, a, b in parts]
            return tuple(tensors) if number == 10 else tensors[-1] if tensors else Tensor(self.content)
        return None

    def floats(self, start: int, end: int) -> tuple[float, ...]:
        if (end - start) % 4:
            raise ValueError("the ONNX model is damaged: a float has 4 bytes")
        return unpack_from(f"<{(end - start) // 4}f", self.content, start)

    def ints(self, start: int, end: int) -> list[int]:
        found = []
        while start < end:
            value, start = self.varint(start, end)
            found.append(value)
            _only_so_many(found)
        return found

    def tensor(self, start: int, end: int) -> Tensor:
        tensor = Tensor(self.content)
        dims: list[int] = []
        for number, kind, first, last in self.fields(start, end):
            if number == 1 and kind in (_VARINT, _BYTES):
                dims += [first] if kind == _VARINT else self.ints(first, last)
            elif (number, kind) == (2, _VARINT):
                tensor.data_type = first & 2**32 - 1
            elif kind in _DATA_KINDS.get(number, ()):
                tensor.typed.setdefault(number, []).append(first if kind == _VARINT else (first, last))
            elif (number, kind) == (8, _BYTES):
                tensor.name = self.text(first, last)
            elif (number, kind) == (9, _BYTES):
                tensor.raw = first, last
            elif (number, kind) == (13, _BYTES) or ((number, kind) == (14, _VARINT) and first):
                tensor.has_external_data = True
        tensor.dims = tuple(map(_signed, dims))
        return tensor


_ATTRIBUTE_KINDS = {2: (_FIXED32,), 3: (_VARINT,), 7: (_BYTES, _FIXED32), 8: (_BYTES, _VARINT)}
_ATTRIBUTE_KINDS |= dict.fromkeys((4, 5, 6, 9, 10, 11, 22, 23), (_BYTES,))
"""By number the wire types of AttributeProto's values; repeated numbers may come packed or one by one."""

_DATA_KINDS = {4: (_BYTES, _FIXED32), 10: (_BYTES, _FIXED64)}
_DATA_KINDS |= dict.fromkeys((5, 7, 11), (_BYTES, _VARINT))
"""By number the wire types of TensorProto's typed data."""


def _only_once(what: str, already: bool) -> None:
    if already:
        raise ValueError(f"the ONNX model gives the {what} twice")


def _only_so_many(values: Sequence[float]) -> None:
    if len(values) > MAX_VALUES:
        raise ValueError(f"the ONNX model has a list of more than {MAX_VALUES:,} numbers")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
