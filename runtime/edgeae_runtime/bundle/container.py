"""Reading a bundle's files, from a folder or an uncompressed zip file, and never more than is expected.

Sizes are looked at before anything is read. Links, pipes and devices in a bundle's folder are refused: they
would lead out of it, or never end. The bundle itself may be reached by a link.
"""

import errno
import io
import os
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

MAX_DIRECTORY = 2**20
"""Bytes of a zip file's directory; a bundle's takes some kilobytes."""

_END, _ZIP64 = b"PK\x05\x06", b"PK\x06\x07"
_END_BYTES, _COMMENT_BYTES = 22, 65535


class SizeError(Exception):
    """A file is not as large as it should be, or may be."""

    def __init__(self, size: int) -> None:
        """Take the size that it has."""
        super().__init__(f"it has {size:,} bytes")
        self.size = size


def is_zip(path: str) -> bool:
    """Whether this is a regular file that ends as a zip file does."""
    from zipfile import is_zipfile  # not needed for a folder

    return S_ISREG(os.stat(path).st_mode) and is_zipfile(path)


def read_member(bundle: str, name: str, *, limit: int, exact: bool = False) -> bytes:
    """Return the bytes of one file of a bundle.

    Args:
        bundle: its folder or zip file.
        name: a plain file name.
        limit: most bytes that it may have.
        exact: whether it must have as many.

    Raises:
        SizeError: it has another size.
        FileNotFoundError, KeyError: it is missing.
        Exception: what the system, `zipfile` and `zlib` raise on damaged files, a dozen unrelated types.
    """
    if os.path.isdir(bundle):
        return _read_file(os.path.join(bundle, name), limit, exact)
    from zipfile import ZipFile

    with open(os.open(bundle, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        tail_bytes = min(size, _END_BYTES + _COMMENT_BYTES)
        file.seek(size - tail_bytes)
        _check_directory(file.read(tail_bytes))
        with ZipFile(file) as archive:
            return _read_entry(archive, archive.getinfo(name), limit, exact)


def read_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an uncompressed ``.npz`` file by name, read-only.

    `numpy.load` would believe the shapes that they say they have, and make as much room.

    Raises:
        Exception: see `read_member`.
    """
    from zipfile import ZipFile

    _check_directory(content[-_END_BYTES - _COMMENT_BYTES :])
    arrays: dict[str, NDArray[Any]] = {}
    left = len(content)  # entries may lie over one another
    with ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            array = _read_array(_read_entry(archive, entry, left, exact=False))
            left -= entry.file_size
            arrays[entry.filename.removesuffix(".npy")] = array
    return arrays


def _read_array(content: bytes) -> NDArray[Any]:
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array is not of NumPy's format 1.0")
    shape, in_columns, kind = np.lib.format.read_array_header_1_0(file)
    if kind.kind not in "biuf":
        raise ValueError(f"an array holds {kind}, expected numbers")
    values = np.frombuffer(content, kind, offset=file.tell())
    return values.reshape(shape, order="F" if in_columns else "C")


def _read_file(path: str, limit: int, exact: bool) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP and S_ISLNK(os.lstat(path).st_mode):
            raise ValueError("it is a link; a bundle holds its files itself") from None
        raise
    try:
        found = os.fstat(handle)
        if S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not S_ISREG(found.st_mode):
            raise ValueError("it is no regular file")
        _check_size(found.st_size, limit, exact)
        parts, left = [], limit + 1  # one more than allowed: it may grow meanwhile
        while left and (part := os.read(handle, left)):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(handle)
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    _check_size(len(content), limit, exact)
    return content


def _check_directory(tail: bytes) -> None:
    """Refuse a directory that would fill the memory; the end is looked for as `zipfile` does it."""
    place = len(tail) - _END_BYTES
    if tail[place : place + 4] != _END or tail[-2:] != b"\0\0":
        place = tail.rfind(_END)
    end = tail[place : place + _END_BYTES]
    if place < 0 or len(end) < _END_BYTES:
        return  # zipfile raises for it
    if _ZIP64 in tail[max(0, place - 20) : place] or int.from_bytes(end[12:16], "little") > MAX_DIRECTORY:
        raise ValueError("its zip file's directory is larger than a bundle's can be")


def _read_entry(archive: "ZipFile", entry: "ZipInfo", limit: int, exact: bool) -> bytes:
    if entry.compress_type:
        raise ValueError("it is compressed; zip the bundle without compression (zip -0)")
    _check_size(entry.file_size, limit, exact)
    with archive.open(entry) as file:
        content = file.read(limit + 1)  # to the end, so that zipfile compares its checksum
    _check_size(len(content), limit, exact)
    return content


def _check_size(size: int, limit: int, exact: bool) -> None:
    if size > limit or (exact and size != limit):
        raise SizeError(size)
