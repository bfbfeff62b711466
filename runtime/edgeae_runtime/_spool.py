"""What `edgeae watch` must not forget: results until they are delivered, and where it stands.

One kind of record, in files that are only appended to::

    1f0c93ab {"first":17,"results":[{...},{...}],"sent":12,"state":{...}}

A line is written and flushed to the disk (fdatasync) as one: results, sequence number and state cannot
disagree, whenever the power fails. The checksum tells a line that was cut short. The newest line counts.
"""

import fcntl
import os
import zlib
from collections import deque
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from ._errors import OutputError
from ._files import named_disk_errors

SEGMENT_BYTES = 1 << 20
"""A file that has grown beyond this is followed by another one."""
LIMIT_BYTES = 64 << 20


class Result(NamedTuple):
    """A result that waits to be delivered."""

    sequence: int
    payload: bytes
    """JSON."""


class _Commit(msgspec.Struct):
    """A record."""

    first: int
    """Sequence number of the first result; without one, of that which comes next."""
    results: list[msgspec.Raw]
    """Numbered one by one."""
    sent: int
    """Up to this sequence number, all have been delivered."""
    state: msgspec.Raw

    @property
    def last(self) -> int:
        """Sequence number of the last result so far."""
        return self.first + len(self.results) - 1


class _Segment:
    """A file of records."""

    def __init__(self, path: Path, last: int = 0) -> None:
        self.path, self.last = path, last
        self.bytes = path.stat().st_size

    @property
    def number(self) -> int:
        return int(self.path.stem)


class Spool:
    """A folder of records, for one process at a time.

    It is bounded: when it grows beyond its limit, the oldest file goes, and with it the oldest results
    that were not delivered. Delivered results make room a file at a time.
    """

    def __init__(self, folder: Path, *, limit: int = LIMIT_BYTES) -> None:
        """Open the folder, or make it, and read where the last process came to.

        Raises:
            OutputError: another process uses it, or it cannot be written to.
        """
        self.folder, self._limit = folder, limit
        self._size = min(SEGMENT_BYTES, max(limit // 8, 1))
        self.dropped = 0
        """Results that were given up undelivered, because the folder was full."""
        self.damaged = 0
        """Records that were found cut short or altered."""
        self.state: bytes | None = None
        """As it was appended last; also by the process before."""
        self.last = self.sent = self.committed = 0
        """Sequence numbers: of the last result, up to which all are delivered, and of that as on disk."""
        self._waiting: deque[Result] = deque()
        self._file: BinaryIO | None = None
        self._reader: BinaryIO | None = None
        self._reading = 0
        with named_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(folder / "lock", "wb")  # noqa: SIM115  # held until `close`
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._lock.close()
                raise OutputError(
                    f"{folder}: another edgeae watch is using it; stop that one, or choose another --state"
                ) from None
            self._segments = [_Segment(path) for path in sorted(folder.glob("[0-9]*.log"))]
            self._recover()
        self._taken = self.sent

    @property
    def depth(self) -> int:
        """Results that wait to be delivered."""
        return self.last - self.sent

    def append(self, results: list[bytes], state: bytes) -> None:
        """Put results, numbered from `last` + 1, and a state on the disk; they are there on return.

        Args:
            results: as JSON.
            state: as JSON.

        Raises:
            OutputError: the disk refuses it; what was there before stays.
        """
        commit = _Commit(self.last + 1, [msgspec.Raw(r) for r in results], self.sent, msgspec.Raw(state))
        line = msgspec.json.encode(commit)
        line = b"%08x %s\n" % (zlib.crc32(line), line)
        with named_disk_errors(self.folder):
            file = self._open_file(len(line))
            file.write(line)
            file.flush()
            os.fdatasync(file.fileno())
        segment = self._segments[-1]
        segment.bytes += len(line)
        segment.last = self.last = commit.last
        self.committed, self.state = self.sent, state
        self._make_room()

    def take(self) -> Result | None:
        """Return the next result to deliver, in order, each once; None where there is none."""
        while not self._waiting and self._taken < self.last:
            line = self._next_line()
            if line is None:  # what is left was damaged
                self._taken = self.last
                break
            commit = _parse(line)
            for number, payload in enumerate(commit.results if commit else (), commit.first if commit else 0):
                if number > self._taken:
                    self._waiting.append(Result(number, bytes(payload)))
        if not self._waiting:
            return None
        result = self._waiting.popleft()
        self._taken = result.sequence
        return result

    def mark_sent(self, sequence: int) -> None:
        """Note that all up to this one have been delivered; it is on the disk after the next `append`."""
        self.sent = max(self.sent, sequence)
        while len(self._segments) > 1 and self._segments[0].last <= self.sent:
            self._remove_oldest()

    def close(self) -> None:
        """Let another process use the folder."""
        for file in (self._file, self._reader, self._lock):
            if file is not None:
                file.close()

    def _open_file(self, needed: int) -> BinaryIO:
        """Return the newest file, or a new one where that is full."""
        if self._file is None or self._segments[-1].bytes + needed > self._size:
            number = self._segments[-1].number + 1 if self._segments else 1
            path = self.folder / f"{number:08}.log"
            if self._file is not None:
                self._file.close()
            self._file = open(path, "xb")  # noqa: SIM115  # stays open
            self._segments.append(_Segment(path, self.last))
            handle = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        return self._file

    def _make_room(self) -> None:
        """Remove old files, all of whose results are delivered or that are too much; never the newest."""
        while len(self._segments) > 1 and sum(s.bytes for s in self._segments) > self._limit:
            lost = self._segments[0].last - self.sent
            if lost > 0:
                self.dropped += lost
                self.sent += lost
                while self._waiting and self._waiting[0].sequence <= self.sent:
                    self._waiting.popleft()
            self._remove_oldest()
        self.mark_sent(self.sent)

    def _remove_oldest(self) -> None:
        with named_disk_errors(self.folder):
            self._segments.pop(0).path.unlink(missing_ok=True)

    def _recover(self) -> None:
        """Find the newest whole record; what was cut short after it had not been acknowledged to anybody."""
        for segment in self._segments:
            with open(segment.path, "rb") as file:
                for line in file:
                    commit = _parse(line)
                    if commit is None:
                        self.damaged += 1
                        continue
                    if self.state is None:  # what came before was delivered or given up, and is gone
                        self.sent = commit.first - 1
                    self.last, self.sent = commit.last, max(self.sent, commit.sent)
                    self.state = bytes(commit.state)
            segment.last = self.last
        self.committed = self.sent = min(self.sent, self.last)
        # a new process writes a new file, so that nothing is ever appended to a line that was cut short

    def _next_line(self) -> bytes | None:
        """Return the next line of all files; None after the newest one so far."""
        while True:
            if self._reader is not None and (line := self._reader.readline()):
                return line
            later = [segment for segment in self._segments if segment.number > self._reading]
            if not later:
                return None
            if self._reader is not None:
                self._reader.close()
            self._reading = later[0].number
            self._reader = open(later[0].path, "rb")  # noqa: SIM115  # stays open


def _parse(line: bytes) -> _Commit | None:
    """Return a record, or None where the line is not what was written."""
    if line[-1:] != b"\n" or line[8:9] != b" ":
        return None
    content = line[9:-1]
    if line[:8] != b"%08x" % zlib.crc32(content):
        return None
    return msgspec.json.decode(content, type=_Commit)
