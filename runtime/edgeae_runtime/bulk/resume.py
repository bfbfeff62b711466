"""Results that grow, survive a kill and go on.

While a result ``NAME`` grows, ``.NAME.partial`` holds what there is of it, and ``.NAME.journal`` records of
which run and input it is, and up to which byte it is sound: there a later run cuts it off and goes on. In a
folder of results ``.NAME.done`` then records of which input a whole one is.
"""

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from ..errors import DataError, OutputError
from ..files import check_file_target, named_disk_errors
from .job import BulkRun, Record
from .results import finish

FOLDER_RECORD = ".edgeae.json"
"""File in a folder of results with the `BulkRun` that made them."""
SAVE_SECONDS = 1.0
"""Seconds between two saves: about so much work a kill may cost."""
LOCK_SECONDS = 5.0
"""Seconds to wait for another process that is at the same result."""


def read_run(out: Path) -> BulkRun | None:
    """Return the run that a result, or a folder of results, was begun with; None where none is recorded."""
    try:
        if out.is_dir():
            return msgspec.json.decode((out / FOLDER_RECORD).read_bytes(), type=BulkRun)
        return _decode(_paths(out)[1].read_bytes())[0]
    except (OSError, msgspec.DecodeError):
        return None


class Partial:
    """A result that grows, with its journal."""

    def __init__(self, file: IO[bytes], out: Path, record: bytes) -> None:
        """Cut the file off where its journal ends, or at its start if that is of another record."""
        self._file, self._journal, self._record = file, _paths(out)[1], record
        self.units, size = saved(out, record)
        if not self.units:
            self._journal.unlink(missing_ok=True)
        file.truncate(size)
        file.seek(size)
        self._when = time.monotonic()

    def append(self, unit: bytes) -> None:
        """Add a unit; now and then the journal records that it is on the disk."""
        self._file.write(unit)
        self.units += 1
        if time.monotonic() - self._when < SAVE_SECONDS:
            return
        self._file.flush()
        os.fsync(self._file.fileno())  # before the journal records it
        with self._journal.open("ab") as journal:
            if not journal.tell():
                journal.write(self._record + b"\n")
            # between two line ends, so that a line which a power cut tore is never read as another
            journal.write(b"\n%d %d.\n" % (self.units, self._file.tell()))
        self._when = time.monotonic()


@contextmanager
def resumable(out: Path, record: bytes) -> Iterator[Partial]:
    """Yield what there is of a result file already; where the block ends well it gets its name.

    ``record`` is one line that identifies its run and its input.

    Raises:
        OutputError: the file cannot be, the disk refuses a write, or another process is at it.
    """
    check_file_target(out)
    path, journal, done = _paths(out)
    with named_disk_errors(out), path.open("a+b") as file:
        _lock(file, path, out)
        partial = Partial(file, out, record)
        finished = path
        try:
            yield partial
            file.flush()
            finished = finish(path, out.suffix)
            with finished.open("rb") as whole:
                os.fsync(whole.fileno())
            finished.replace(out)
            path.unlink(missing_ok=True)
            journal.unlink(missing_ok=True)
            if out.with_name(FOLDER_RECORD).exists():
                done.write_bytes(record + b"\n%d\n" % out.stat().st_size)  # half of it is as good as none
        except BaseException as error:
            if finished != path:
                finished.unlink(missing_ok=True)
            if isinstance(error, DataError) or not journal.exists():  # wrong input will be another one
                path.unlink(missing_ok=True)
                journal.unlink(missing_ok=True)
            raise


def is_done(out: Path, record: bytes) -> bool:
    """Return whether a result in a folder is whole, and that of this run and input.

    Raises:
        OutputError: it is that of another input, which would be lost.
    """
    try:
        done, size = _paths(out)[2].read_bytes(), out.stat().st_size
        other = _decode(done)[1]
    except (OSError, msgspec.DecodeError):
        return False
    if other != _decode(record)[1]:
        raise OutputError(f"{out}: is the result of {other}; choose another name, or remove it")
    return done == record + b"\n%d\n" % size


def _decode(content: bytes) -> Record:
    record: Record = msgspec.json.decode(content.partition(b"\n")[0], type=Record)
    return record


def saved(out: Path, record: bytes) -> tuple[int, int]:
    """Return how many units of an unfinished result there are, and their bytes; 0 if of another record."""
    path, journal, _ = _paths(out)
    try:
        head, _, rest = journal.read_bytes().partition(b"\n")
        units, size = map(int, re.findall(rb"\n(\d+) (\d+)\.(?=\n)", rest)[-1])
        if head == record and size <= path.stat().st_size:
            return units, size
    except (OSError, IndexError):  # none, or nothing was saved
        pass
    return 0, 0


def _paths(out: Path) -> tuple[Path, Path, Path]:
    partial, journal, done = (out.with_name(f".{out.name}.{end}") for end in ("partial", "journal", "done"))
    return partial, journal, done


def _lock(file: IO[bytes], path: Path, out: Path) -> None:
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() > until:
                raise OutputError(f"{out}: another process is writing it; wait, or choose another") from None
            time.sleep(0.1)
    if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise OutputError(f"{out}: another process has just written it; run again to do it anew")
