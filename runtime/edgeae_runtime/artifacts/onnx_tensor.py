"""A constant of an ONNX model, as `onnx_file` finds it, and its values as an array."""

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

_NUMPY = {1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
_NUMPY |= {12: "<u4", 13: "<u8"}
"""NumPy's type by TensorProto.DataType."""

_TYPED_FIELD = {1: 4, 11: 10, 7: 7, 12: 11, 13: 11} | dict.fromkeys((2, 3, 4, 5, 6, 9, 10), 5)
"""Number of the TensorProto field that holds a data type's values where raw_data does not."""


class Tensor(msgspec.Struct):
    """A constant; its values stay in the model's bytes until `array` is called."""

    content: bytes
    """The whole model's."""
    name: str = ""
    dims: tuple[int, ...] = ()
    data_type: int = 0
    """Of TensorProto.DataType, such as 1 for float32, 2 for uint8, 3 for int8."""
    has_external_data: bool = False
    """Whether the values are, or may be, in another file."""
    raw: tuple[int, int] | None = None
    """Where ``raw_data`` begins and ends."""
    typed: dict[int, list[int | tuple[int, int]]] = {}
    """By field number: a number, or where several begin and end."""

    def array(self) -> NDArray[Any]:
        """Return the values in the tensor's shape; read-only where they lie in the model's bytes.

        Raises:
            ValueError: of a type that NumPy lacks, in another file, or not as many as the shape has.
        """
        if self.has_external_data or self.data_type not in _NUMPY:
            where = "in another file" if self.has_external_data else f"of ONNX data type {self.data_type}"
            raise ValueError(f"the values of {self.name!r} are {where}")
        kind = np.dtype(_NUMPY[self.data_type])
        values = self._raw(kind) if self.raw else self._typed(kind)
        if min(self.dims, default=0) < 0 or values.size != math.prod(self.dims):
            raise ValueError(f"{self.name!r} has {values.size} values for the shape {list(self.dims)}")
        return values.reshape(self.dims).astype(kind.newbyteorder("="), copy=False)

    def _raw(self, kind: np.dtype[Any]) -> NDArray[Any]:
        start, end = self.raw or (0, 0)
        if (end - start) % kind.itemsize:
            raise ValueError(f"{self.name!r} has {end - start} bytes of {kind.itemsize} each")
        return np.frombuffer(self.content, kind, (end - start) // kind.itemsize, start)

    def _typed(self, kind: np.dtype[Any]) -> NDArray[Any]:
        field = _TYPED_FIELD[self.data_type]
        parts = self.typed.get(field, [])
        if field in (4, 10):  # float_data, double_data
            packed = b"".join(self.content[p[0] : p[1]] for p in parts if isinstance(p, tuple))
            return np.frombuffer(packed, kind)
        numbers = [
            _varints(self.content[p[0] : p[1]]) if isinstance(p, tuple) else np.array([p], np.uint64)
            for p in parts
        ]
        whole = np.concatenate(numbers) if numbers else np.zeros(0, np.uint64)
        if kind == "?":
            return whole.astype(bool)
        bits = whole.astype(f"u{kind.itemsize}")  # cuts off the sign's repetition
        return bits.view(kind.newbyteorder("="))


def _varints(packed: bytes) -> NDArray[np.uint64]:
    """Decode many at once."""
    raw = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(raw < 128)
    if raw.size and (not ends.size or ends[-1] != raw.size - 1):
        raise ValueError("the ONNX model is damaged: a number does not end")
    starts = np.append(0, ends[:-1] + 1)[: ends.size]
    sizes = ends - starts + 1
    if (sizes > 10).any():
        raise ValueError("the ONNX model is damaged: a number is too long")
    shifts = (np.arange(raw.size) - np.repeat(starts, sizes)) * 7
    bits = (raw & 127).astype(np.uint64) << shifts.astype(np.uint64)
    return np.bitwise_or.reduceat(bits, starts) if raw.size else np.zeros(0, np.uint64)
