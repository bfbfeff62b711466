"""TFLite files without what nothing reads.

A tensor that is quantized per channel keeps an int64 zero point for each channel, all of them 0: twice a
layer, for weights and bias, twice the size of the scales. FlatBuffers lets two tables refer to one vector.
Tensors are found through the signature, so their own names, which list whole chains of layers, become
numbers; what the converter notes about itself goes.
"""

from typing import Any

import flatbuffers
from ai_edge_litert.tools import flatbuffer_utils

_FILE_IDENTIFIER = b"TFL3"
_NOTES = b"CONVERSION_METADATA"
_ZERO_POINT_BYTES = 8
"""Elements of no other long vector have it; those of 4 bytes may be references, tied to their place."""


def compact(model: bytes) -> bytes:
    """Return the same model in fewer bytes."""
    content: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    for graph in content.subgraphs:
        for number, tensor in enumerate(graph.tensors):
            tensor.name = str(number)
    for notes in [m for m in content.metadata or [] if m.name == _NOTES]:
        content.metadata.remove(notes)
        if notes.buffer == len(content.buffers) - 1:  # else another one would move to its place
            content.buffers.pop()
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
