"""Tables of a flatbuffer, read without trust: every offset and length is checked against the file.

The encoding is that of https://flatbuffers.dev/internals: a table begins with the distance to its vtable,
which gives the distance at which each field lies; strings and vectors begin with their length.
"""

from struct import error as StructError
from struct import unpack_from

MAX_PARTS = 2_000_000
"""Most tables and vector entries that are read; exported models have some thousands."""

_SIZES = {"b": 1, "B": 1, "?": 1, "h": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8}


class FlatFile:
    """The bytes, and how much may still be looked at: parts of a file can be referred to many times."""

    def __init__(self, content: bytes) -> None:
        """Take a file's bytes."""
        self.content = content
        self.left = MAX_PARTS

    def root(self, identifier: bytes) -> "FlatTable":
        """Return the outermost table of a file with this identifier.

        Raises:
            ValueError: it is of another kind, or damaged.
        """
        if self.content[4:8] != identifier:
            raise ValueError(f"the file does not begin as one of {identifier.decode()} does")
        return FlatTable(self, self.number("I", 0))

    def number(self, kind: str, place: int) -> int:
        """Return an integer; ``kind`` is a letter of `struct`."""
        try:
            (value,) = unpack_from(f"<{kind}", self.content, place)
        except StructError:
            raise _damaged() from None
        return int(value)

    def spend(self, parts: int) -> None:
        """Count parts that are looked at; raise ValueError where they are too many."""
        self.left -= parts
        if self.left < 0:
            raise ValueError("the file has too many parts")


class FlatTable:
    """One table. Fields go by their number in the schema; methods give what is there, or the default.

    All raise ValueError where an offset or a length leads out of the file.
    """

    __slots__ = ("_end", "_file", "_offsets", "_place")

    def __init__(self, file: FlatFile, place: int) -> None:
        """Read the vtable of the table at a place."""
        file.spend(1)
        vtable = place - file.number("i", place)
        if not 0 <= vtable <= len(file.content) - 4:
            raise _damaged()
        size, length = file.number("H", vtable), file.number("H", vtable + 2)
        if size < 4 or size % 2 or vtable + size > len(file.content) or length < 4:
            raise _damaged()
        self._file, self._place, self._end = file, place, place + length
        self._offsets = unpack_from(f"<{size // 2 - 2}H", file.content, vtable + 4)
        if self._end > len(file.content):
            raise _damaged()

    @property
    def fields(self) -> range:
        """Numbers of the fields that it may have."""
        return range(len(self._offsets))

    def place(self, field: int, size: int) -> int:
        """Return where a field of this many bytes lies; 0 where it is absent."""
        offset = self._offsets[field] if field < len(self._offsets) else 0
        if not offset:
            return 0
        place = self._place + offset
        if offset < 4 or place + size > self._end:
            raise _damaged()
        return place

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """Return a field's integer; ``kind`` is a letter of `struct`."""
        place = self.place(field, _SIZES[kind])
        return self._file.number(kind, place) if place else default

    def table(self, field: int) -> "FlatTable | None":
        """Return the table that a field refers to; None where it is absent."""
        place = self._target(field)
        return FlatTable(self._file, place) if place else None

    def tables(self, field: int) -> list["FlatTable"] | None:
        """Return a vector of tables; None where it is absent."""
        found = self.span(field, 4)
        if found is None:
            return None
        start, count = found
        self._file.spend(count)
        places = range(start, start + 4 * count, 4)
        return [FlatTable(self._file, place + self._file.number("I", place)) for place in places]

    def numbers(self, field: int, kind: str) -> tuple[float, ...]:
        """Return a vector of numbers; empty where it is absent."""
        found = self.span(field, _SIZES[kind])
        if found is None:
            return ()
        start, count = found
        self._file.spend(count)
        return unpack_from(f"<{count}{kind}", self._file.content, start)

    def span(self, field: int, size: int) -> tuple[int, int] | None:
        """Return where a vector's entries of ``size`` bytes begin, and how many they are."""
        place = self._target(field)
        if not place:
            return None
        count = self._file.number("I", place)
        if place + 4 + count * size > len(self._file.content):
            raise _damaged()
        return place + 4, count

    def text(self, field: int) -> bytes | None:
        """Return a string; its readers rely on the zero after it."""
        found = self.span(field, 1)
        if found is None:
            return None
        start, count = found
        if self._file.content[start + count : start + count + 1] != b"\0":
            raise _damaged()
        return self._file.content[start : start + min(count, 1000)]

    def _target(self, field: int) -> int:
        place = self.place(field, 4)
        return place + self._file.number("I", place) if place else 0


def _damaged() -> ValueError:
    return ValueError("the file is damaged: an offset or a length leads out of it")
