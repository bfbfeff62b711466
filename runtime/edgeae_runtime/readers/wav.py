"""WAV files: each channel is a column, full scale is 1.0, and the sampling rate gives the times.

The standard library's `wave` reads no floats, and before Python 3.12 not the header that 24 bits come with.
"""

import struct
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import as_samples
from ..errors import DataError
from .source import Source
from .table import PIECE_VALUES, OpenTable, Piece, Wanted, choose, refuse_label

MAX_TIMED_RATE = 500_000
"""Samples a second up to which they get times, which are whole microseconds: above, steps would differ."""
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_COMPRESSED = {2: "MS ADPCM", 6: "A-law", 7: "µ-law", 0x11: "IMA ADPCM", 0x31: "GSM 6.10", 0x55: "MP3"}
_UNKNOWN_SIZE = 0xFFFFFFFF
"""Bytes of the samples where whoever wrote them could not go back to the header; they go on to the end."""
_SKIPPED_BYTES = 2**16


def _of_24_bits(content: bytes) -> NDArray[np.float32]:
    wide = np.zeros((len(content) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
    return wide.view("<i4")[:, 0] * np.float32(2.0**-31)


def _scaled(kind: str, factor: float) -> Callable[[bytes], NDArray[Any]]:
    return lambda content: np.frombuffer(content, kind).astype(np.float32) * np.float32(factor)


_DECODERS: dict[tuple[int, int], Callable[[bytes], NDArray[Any]]] = {
    (_PCM, 8): lambda content: _scaled("u1", 2.0**-7)(content) - 1,
    (_PCM, 16): _scaled("<i2", 2.0**-15),
    (_PCM, 24): _of_24_bits,
    (_PCM, 32): _scaled("<i4", 2.0**-31),
    (_FLOAT, 32): lambda content: np.frombuffer(content, "<f4"),
    (_FLOAT, 64): lambda content: np.frombuffer(content, "<f8"),
}
"""From the bytes of samples to numbers, by format and bits."""


class _Header(NamedTuple):
    channels: int
    rate: int
    frame: int
    """Bytes of one sample of all channels."""
    decode: Callable[[bytes], NDArray[Any]]
    size: int | None
    """Bytes of all samples; None where the header does not have it."""


def read(source: Source, wanted: Wanted) -> OpenTable:
    """Open a WAV file of PCM or floats; its columns are ``left`` and ``right``, or else ``channel1``, ….

    Raises:
        DataError: its samples are compressed, or it has none of the channels.
    """
    refuse_label(source.where, wanted)
    file = source.open()
    header = _read_header(file, source.where)
    names = [f"channel{i + 1}" for i in range(header.channels)] if header.channels != 2 else ["left", "right"]
    features, _ = choose(source.where, names, wanted)
    columns = slice(None) if features == tuple(names) else [names.index(name) for name in features]

    def pieces() -> Iterator[Piece]:
        row = 1
        for samples in _samples(file, header, source.where):
            values = as_samples(samples[:, columns], where=source.where, first_row=row)
            times = _times(row, len(values), header.rate) if wanted.times else None
            row += len(values)
            yield Piece(values, times, read=source.share())

    return OpenTable(source.where, features, pieces())


def _samples(file: IO[bytes], header: _Header, where: str) -> Iterator[NDArray[Any]]:
    """Yield samples (n, channels)."""
    most = max(1, PIECE_VALUES // header.channels) * header.frame
    size = None if header.size is None else header.size // header.frame * header.frame
    found = 0
    while size is None or found < size:
        wanted = most if size is None else min(most, size - found)
        content = file.read(wanted)
        found += len(content)
        if whole := len(content) // header.frame * header.frame:
            yield header.decode(content[:whole]).reshape(-1, header.channels)
        if len(content) < wanted:
            if size is not None:
                raise EOFError(f"{size - found} of {size} bytes are missing")
            break
    while file.read(_SKIPPED_BYTES):  # the end has the checksum of what was compressed
        pass
    if found < header.frame:
        raise DataError(f"{where}: has no samples; record it again")


def _times(row: int, count: int, rate: int) -> NDArray[np.datetime64] | None:
    """Return the time of each sample from the start of the recording, as if that had been in 1970."""
    if rate > MAX_TIMED_RATE:
        return None
    microseconds = np.arange(row - 1, row - 1 + count, dtype=np.int64) * 1_000_000 // rate
    return microseconds.astype("datetime64[us]")


def _read_header(file: IO[bytes], where: str) -> _Header:
    """Read up to the first sample.

    Raises:
        DataError: the samples are compressed.
        ValueError, EOFError: it is no WAV file, or is cut off.
    """
    start = _exactly(file, 12)
    if start[:4] not in (b"RIFF", b"RF64") or start[8:] != b"WAVE":
        raise ValueError("its first bytes are not those of a WAV file")
    form = long_size = None
    while True:
        name, size = struct.unpack("<4sI", _exactly(file, 8))
        if name == b"data":
            break
        kept = _exactly(file, min(size, 40)) if name in (b"fmt ", b"ds64") else b""
        if name == b"fmt ":
            form = _form(kept, where)
        elif name == b"ds64":  # of RF64, for more than 4 GB
            (long_size,) = struct.unpack_from("<Q", kept, 8)
        left = size + size % 2 - len(kept)
        while left:
            left -= len(_exactly(file, min(left, _SKIPPED_BYTES)))
    if form is None:
        raise ValueError("its samples come before their format")
    return _Header(*form, size if size != _UNKNOWN_SIZE else long_size)


def _form(content: bytes, where: str) -> tuple[int, int, int, Callable[[bytes], NDArray[Any]]]:
    """Return the channels, the rate, the bytes of a sample of all channels, and what reads them."""
    form, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", content)
    if form == _EXTENSIBLE:
        (form,) = struct.unpack_from("<H", content, 24)
    decode = _DECODERS.get((form, bits))
    if decode is None:
        found = _COMPRESSED.get(form, f"of format {form} with {bits} bits")
        raise DataError(
            f"{where}: its samples are {found}, expected PCM of 8, 16, 24 or 32 bits, or floats; convert it, "
            "as with ffmpeg -i IN -c:a pcm_s16le OUT.wav"
        )
    if not (channels and rate) or frame != channels * bits // 8:
        raise ValueError(f"its header says {channels} channels at {rate} Hz in {frame} bytes")
    return channels, rate, frame, decode


def _exactly(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError("its header is cut off")
    return content
