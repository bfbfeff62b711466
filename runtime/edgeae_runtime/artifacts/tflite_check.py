"""Checks of a TFLite model before the interpreter sees its bytes.

The interpreter follows a model without checking: an index out of range ends the process. So all that
it follows is checked against TensorFlow Lite's schema (schema.fbs, whose field numbers stand here) and, where
the kernels rely on more, against that.
"""

from collections.abc import Sequence
from typing import TypeVar

from .flatbuffer import FlatFile, FlatTable
from .tflite_operators import (
    ARITY,
    COUNTED_INPUTS,
    COUNTED_OUTPUTS,
    MAY_BE_ABSENT,
    OUTPUT_LIKE,
    OUTPUT_TYPES,
    POSITIVE_OPTIONS,
    SEVERAL_OUTPUTS,
    SIZES_IN,
    VECTORS_OF_OPTIONS,
)

Kind = TypeVar("Kind")

MAX_MEMORY = 2**28
"""Most bytes that all tensors of one row take together, constants aside."""

MAX_RANK = 8
MAX_STEP = 2**15
"""Largest stride, dilation, or side of a pool."""

MAX_ENTRIES = 2**26
"""Most values of a tensor whose shape is a constant's values."""

MIN_SCALE, MAX_SCALE = 1e-30, 1e30

_BYTES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 9: 1}
"""Size of a value by TensorType: float32, float16, int32, uint8, int64, bool, int16, int8."""

_RANGES = {
    2: (-(2**31), 2**31 - 1),
    3: (0, 255),
    4: (-(2**63), 2**63 - 1),
    7: (-(2**15), 2**15 - 1),
    9: (-128, 127),
}
"""Range of a zero point by TensorType."""


def check_tflite(content: bytes) -> None:
    """Refuse a model that is damaged or does what no exported model does.

    Raises:
        ValueError: what it is.
    """
    try:
        _Check(content).model()
    except ValueError as error:
        raise ValueError(f"the TFLite model is refused: {error}; export the bundle again") from None


class _Tensor:
    """Properties of a tensor, for the operators' checks."""

    __slots__ = ("bytes", "constant", "kind", "known", "shape", "span", "variable")

    def __init__(
        self, kind: int, shape: tuple[int, ...], span: tuple[int, int] | None, variable: bool
    ) -> None:
        self.kind, self.shape, self.span, self.variable = kind, shape, span, variable
        self.constant = span is not None
        self.known = self.constant or variable
        """Whether it has values before the next operator runs."""
        self.bytes = _BYTES[kind]
        for n in shape:
            self.bytes *= n


class _Check:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.file = FlatFile(content)

    def model(self) -> None:
        model = self.file.root(b"TFL3")
        if model.number(0, "I") != 3:
            raise ValueError("its schema is not of version 3")
        model.text(3)
        buffers = [self.buffer(b) for b in _required(model.tables(4), "buffers")]
        for buffer in model.numbers(5, "i"):
            _index("a metadata buffer", buffer, buffers)
        for metadata in model.tables(6) or ():
            _required(metadata.text(0), "metadata's name")
            _index("a metadata buffer", metadata.number(1, "I"), buffers)
        if model.tables(8) or model.tables(9):
            raise ValueError("it has data in other files")
        codes = [self.code(c) for c in _required(model.tables(1), "operator codes")]
        graphs = _required(model.tables(2), "subgraphs")
        if len(graphs) != 1:
            raise ValueError(f"it has {len(graphs)} subgraphs, expected 1")
        inputs, outputs = self.graph(graphs[0], buffers, codes)
        for signature in model.tables(7) or ():
            _required(signature.text(2), "signature's name")
            if signature.number(4, "I"):
                raise ValueError("a signature is of a subgraph that is not there")
            self.signature(signature.tables(0), inputs)
            self.signature(signature.tables(1), outputs)

    def buffer(self, buffer: FlatTable) -> tuple[int, int] | None:
        """Return where a buffer's bytes begin and how many they are; None where it has none."""
        if buffer.number(1, "Q") or buffer.number(2, "Q"):
            raise ValueError("a buffer lies behind the model")
        span = buffer.span(0, 1)
        return span if span and span[1] else None

    def code(self, code: FlatTable) -> int:
        found = max(code.number(0, "b"), code.number(3, "i"))  # as TensorFlow Lite does it
        if code.text(1) is not None or found not in ARITY or not 0 < code.number(2, "i", 1) < 100:
            raise ValueError(f"operator {found} is none that is exported")
        return found

    def graph(
        self, graph: FlatTable, buffers: list[tuple[int, int] | None], codes: list[int]
    ) -> tuple[list[int], list[int]]:
        """Return which tensors are a graph's inputs, and which its outputs."""
        graph.text(4)
        tensors = [self.tensor(t, buffers) for t in _required(graph.tables(0), "tensors")]
        if sum(tensor.bytes for tensor in tensors if not tensor.constant) > MAX_MEMORY:
            raise ValueError(f"its tensors take more than {MAX_MEMORY} bytes")
        inputs, outputs = ([int(i) for i in graph.numbers(field, "i")] for field in (1, 2))
        for i in inputs:
            _index("a graph's input", i, tensors)
            if tensors[i].known:
                raise ValueError("an input is a constant, a variable or another input")
            tensors[i].known = True
        for operator in _required(graph.tables(3), "operators"):
            self.operator(operator, tensors, codes)
        for i in outputs:
            _index("a graph's output", i, tensors)
            if not tensors[i].known:
                raise ValueError("an output is computed by no operator")
        return inputs, outputs

    def tensor(self, tensor: FlatTable, buffers: list[tuple[int, int] | None]) -> _Tensor:
        kind = tensor.number(1, "b")
        shape = self.shape(tensor, 0, 1)
        signature = self.shape(tensor, 7, -1)
        if kind not in _BYTES:
            raise ValueError(f"a tensor is of type {kind}, which no exported model has")
        if signature and len(signature) != len(shape):
            raise ValueError("a tensor has two shapes of different ranks")
        tensor.text(3)
        if tensor.table(6) is not None or tensor.tables(9) or tensor.number(10, "I"):
            raise ValueError("a tensor is sparse, of several types or in another file")
        buffer = tensor.number(2, "I")
        _index("a tensor's buffer", buffer, buffers)
        found = _Tensor(kind, shape, buffers[buffer], bool(tensor.number(5, "B")))
        if found.constant and (buffers[buffer] or (0, 0))[1] != found.bytes:
            raise ValueError(f"a constant of shape {list(shape)} has a buffer of another size")
        if found.constant and found.variable:
            raise ValueError("a variable has a constant's values")
        quantization = tensor.table(4)
        if quantization is not None:
            self.quantization(quantization, found)
        return found

    def shape(self, tensor: FlatTable, field: int, least: int) -> tuple[int, ...]:
        span = tensor.span(field, 4)
        if span and span[1] > MAX_RANK:
            raise ValueError(f"a tensor has {span[1]} axes; at most {MAX_RANK} are allowed")
        shape = tuple(map(int, tensor.numbers(field, "i")))
        if min(shape, default=1) < least or 0 in shape:
            raise ValueError(f"a tensor is of shape {list(shape)}")
        return shape

    def quantization(self, table: FlatTable, tensor: _Tensor) -> None:
        table.numbers(0, "f")
        table.numbers(1, "f")
        scales, zeros = table.numbers(2, "f"), table.numbers(3, "q")
        axis = table.number(6, "i")
        if table.number(4, "B"):
            raise ValueError("a tensor is quantized in a way that no exported model is")
        if not scales and not zeros:
            return
        if len(zeros) not in (0, len(scales)) or (len(zeros) == 0 and len(scales) > 1):
            raise ValueError(f"a tensor has {len(scales)} scales and {len(zeros)} zero points")
        if len(scales) != 1 and not (0 <= axis < len(tensor.shape) and len(scales) == tensor.shape[axis]):
            raise ValueError(
                f"a tensor of shape {list(tensor.shape)} has {len(scales)} scales on axis {axis}"
            )
        if not all(MIN_SCALE <= scale <= MAX_SCALE for scale in scales):  # NaN is not either
            raise ValueError("a tensor has a scale that is not positive or out of all proportion")
        low, high = _RANGES.get(tensor.kind, (0, 0))
        if not all(low <= zero <= high for zero in zeros):
            raise ValueError("a tensor has a zero point out of its type's range")

    def operator(self, operator: FlatTable, tensors: list[_Tensor], codes: list[int]) -> None:
        number = operator.number(0, "I")
        _index("an operator's code", number, codes)
        code = codes[number]
        inputs, outputs = ([int(i) for i in operator.numbers(field, "i")] for field in (1, 2))
        least, most = ARITY[code]
        if (
            not least <= len(inputs) <= most
            or not outputs
            or (len(outputs) > 1 and code not in SEVERAL_OUTPUTS)
        ):
            raise ValueError(f"operator {code} has {len(inputs)} inputs and {len(outputs)} outputs")
        if (
            operator.span(5, 1)
            or any(operator.number(field, "Q") for field in (9, 10))
            or operator.number(11, "B")
        ):
            raise ValueError(f"operator {code} has options of a kind that no exported model has")
        operator.span(7, 1)
        for i in map(int, operator.numbers(8, "i")):
            _index("an operator's intermediate tensor", i, tensors)
        self.options(operator, code)
        self.count(operator, code, COUNTED_INPUTS, len(inputs))
        self.count(operator, code, COUNTED_OUTPUTS, len(outputs))
        for position, i in enumerate(inputs):
            if i == -1 and position in MAY_BE_ABSENT.get(code, ()):
                continue
            _index("an operator's input", i, tensors)
            if not tensors[i].known:
                raise ValueError(f"operator {code} reads a tensor that has no values yet")
        kinds = OUTPUT_TYPES.get(code) or (tensors[inputs[OUTPUT_LIKE.get(code, 0)]].kind,)
        for i in outputs:
            _index("an operator's output", i, tensors)
            if tensors[i].kind not in kinds:
                raise ValueError(f"operator {code} gives a tensor of type {tensors[i].kind}")
            if tensors[i].known:
                raise ValueError(f"operator {code} writes to what has values already")
            tensors[i].known = True
        for position in SIZES_IN.get(code, ()):
            self.sizes(code, tensors[inputs[position]] if position < len(inputs) else None)

    def options(self, operator: FlatTable, code: int) -> None:
        kind, options = operator.number(3, "B"), operator.table(4)
        if options is None:
            return
        vectors = VECTORS_OF_OPTIONS.get(kind, {})
        for field in options.fields:
            if field in vectors:
                options.span(field, vectors[field])
            else:  # how many bytes it has depends on the kind; no field has more than 4
                place = options.place(field, 1)
                if place and place + 4 > len(self.content):
                    raise ValueError("the file is damaged: an option leads out of it")
        for field, default in POSITIVE_OPTIONS.get(kind, {}).items():
            if not 0 < options.number(field, "i", default) <= MAX_STEP:
                raise ValueError(f"operator {code} has a stride, dilation or side out of range")

    def count(self, operator: FlatTable, code: int, counted: dict[int, int], count: int) -> None:
        """Check how many tensors an operator's options say it has: the kernel goes by that."""
        if code not in counted:
            return
        options = operator.table(4)
        if options is None or operator.number(3, "B") != counted[code] or options.number(0, "i") != count:
            raise ValueError(f"operator {code} has not as many tensors as its options say")

    def sizes(self, code: int, tensor: _Tensor | None) -> None:
        """Check a constant whose values are sizes: they make tensors of any size, however small the file."""
        if tensor is None or tensor.span is None or tensor.kind not in (2, 4):
            return
        start, length = tensor.span
        if length > 1024:
            raise ValueError(f"operator {code} has too many sizes")
        product = 1
        for place in range(start, start + length, _BYTES[tensor.kind]):
            product *= max(1, abs(self.file.number("i" if tensor.kind == 2 else "q", place)))
        if product > MAX_ENTRIES:
            raise ValueError(f"operator {code} makes a tensor of more than {MAX_ENTRIES} values")

    def signature(self, names: list[FlatTable] | None, among: list[int]) -> None:
        for entry in names or ():
            _required(entry.text(0), "signature's tensor name")
            if entry.number(1, "I") not in among:
                raise ValueError("a signature names a tensor that is no input or output of the graph")


def _required(found: Kind | None, what: str) -> Kind:
    if found is None:
        raise ValueError(f"it has no {what}")
    return found


def _index(what: str, index: float, among: Sequence[object]) -> None:
    if not 0 <= index < len(among):
        raise ValueError(f"{what} is number {int(index)} of {len(among)}")
