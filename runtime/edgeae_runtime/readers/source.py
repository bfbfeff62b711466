"""Where the bytes of a table come from: a file, which may be compressed, or standard input."""

import io
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError

STANDARD_INPUT = Path("-")
XZ_MEMORY = 2**27
"""Most bytes to decompress xz in, who names them in the file; ``xz -9`` takes half of it."""
_PACKED_BYTES = 2**16
"""Compressed bytes that are read at once."""


def is_standard_input(path: Path) -> bool:
    """Return whether a path is ``-``."""
    return path == STANDARD_INPUT


def source_name(path: Path) -> str:
    """Return what messages call a source."""
    return "standard input" if is_standard_input(path) else str(path)


class Source:
    """The decompressed bytes of one table, from front to back: of a file as often as wanted."""

    def __init__(self, path: Path) -> None:
        """Look at what is there.

        Raises:
            DataError: nothing, a folder, or no bytes.
        """
        self.path = path
        self.where = source_name(path)
        self.once = is_standard_input(path)
        """Whether the bytes come only once."""
        self._opened = ExitStack()
        self._file: Any = None
        self._size = 0
        if self.once:
            self._stream = _standard_input()
            return
        if not path.is_file():
            raise DataError(f"{path}: is a folder; name a file" if path.is_dir() else f"{path}: no such file")
        self._size = path.stat().st_size
        if not self._size:
            raise DataError(f"{path}: is empty (0 bytes); write it again")

    @property
    def is_packed(self) -> bool:
        """Whether it is a compressed file."""
        return compression_of(self.path.name) is not None

    def open(self) -> Any:
        """Return a buffered binary file, at its start; what was opened before is closed."""
        if self.once:
            return self._stream
        self.close()
        self._file = self._opened.enter_context(self.path.open("rb", buffering=0))
        compression = compression_of(self.path.name)
        unpacked = self._file if compression is None else compression.unpack(self._file)
        return self._opened.enter_context(io.BufferedReader(unpacked))

    def keep(self, file: io.IOBase) -> None:
        """Close a file, which wraps what `open` returned, with the source."""
        self._opened.enter_context(file)

    def head(self) -> bytes:
        """Return some of the first bytes of standard input; `open` gives them again."""
        start: bytes = self._stream.peek()
        return start

    def share(self) -> float:
        """Return how much of a file has been read, from 0 to 1; 0 for standard input, which has no size."""
        return 0.0 if self._file is None else float(self._file.tell() / self._size)

    def close(self) -> None:
        """Close what was opened; standard input stays as it is."""
        self._opened.close()


class Compression(NamedTuple):
    """A way to compress a file."""

    suffix: str
    start: bytes
    """First bytes of all its files."""
    unpack: Callable[[Any], Any]
    """From a binary file, which stays open, to one of the decompressed bytes, in bounded memory."""


def _gzip(file: Any) -> Any:
    from gzip import GzipFile

    return GzipFile(fileobj=file)


def _xz(file: Any) -> Any:
    from lzma import LZMADecompressor

    return _Unpacked(file, lambda: LZMADecompressor(memlimit=XZ_MEMORY))


def _bz2(file: Any) -> Any:
    from bz2 import BZ2Decompressor

    return _Unpacked(file, BZ2Decompressor)


COMPRESSIONS = (
    Compression(".gz", b"\x1f\x8b", _gzip),
    Compression(".xz", b"\xfd7zXZ\0", _xz),
    Compression(".bz2", b"BZh", _bz2),
)


def compression_of(name: str) -> Compression | None:
    """Return how a file of this name is compressed; None where it is not."""
    return next((known for known in COMPRESSIONS if name.lower().endswith(known.suffix)), None)


class _Unpacked(io.RawIOBase):
    """What is compressed in a file, in one or more streams; unlike `lzma.open` with a bound of memory."""

    def __init__(self, file: Any, begin: Callable[[], Any]) -> None:
        self._file, self._begin = file, begin
        self._decompressor = begin()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = b""
        while not found:
            packed = b""
            if self._decompressor.eof:
                packed = self._decompressor.unused_data.lstrip(b"\0")  # xz may put zeros between streams
                while not packed:
                    block = self._file.read(_PACKED_BYTES)
                    if not block:
                        return 0
                    packed = block.lstrip(b"\0")
                self._decompressor = self._begin()
            elif self._decompressor.needs_input:
                packed = self._file.read(_PACKED_BYTES)
                if not packed:
                    raise EOFError("it ends before its compressed data do")
            found = self._decompressor.decompress(packed, len(buffer))
        buffer[: len(found)] = found
        return len(found)


class _Borrowed(io.RawIOBase):
    """The bytes of a stream that stays open when this is closed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._stream.readinto(buffer)
        return count


def _standard_input() -> Any:
    """Return the bytes of standard input, decompressed where their first ones are those of a compression.

    Raises:
        DataError: there are none.
    """
    stream = io.BufferedReader(_Borrowed(getattr(sys.stdin, "buffer", io.BytesIO())))
    start = stream.peek()
    if not start:
        raise DataError("standard input: is empty; pipe a table into it")
    for known in COMPRESSIONS:
        if start.startswith(known.start):
            return io.BufferedReader(known.unpack(stream))
    return stream
