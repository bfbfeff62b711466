"""TFLite files in which equal zero points are written once.

A tensor that is quantized per channel keeps an int64 zero point for each channel, all of them 0: twice a
layer, for weights and bias, twice the size of the scales. FlatBuffers lets two tables refer to one vector.
"""

from typing import Any

import flatbuffers
from ai_edge_litert.tools import flatbuffer_utils

_FILE_IDENTIFIER = b"TFL3"
_ZERO_POINT_BYTES = 8
"""No other long vector has elements of this size; those of 4 bytes may be references."""


def share_zero_points(model: bytes) -> bytes:
    """Return the same model in fewer bytes."""
    content: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    builder = _Builder(len(model))
    builder.Finish(content.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())


class _Builder(flatbuffers.Builder):  # type: ignore[misc]  # it has no type information
    """Takes back a vector that was written before and refers to the earlier one."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._begin = self._size = 0
        self._written: dict[bytes, int] = {}

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        self._begin, self._size = self.Offset(), elemSize * numElems if elemSize == _ZERO_POINT_BYTES else 0
        offset: int = super().StartVector(elemSize, numElems, alignment)
        return offset

    def EndVector(self, *rest: Any) -> int:
        offset: int = super().EndVector(*rest)
        if not self._size:
            return offset
        known = self._written.setdefault(bytes(self.Bytes[self.head :][: 4 + self._size]), offset)
        if known != offset:
            self.head: int = len(self.Bytes) - self._begin
        return known
