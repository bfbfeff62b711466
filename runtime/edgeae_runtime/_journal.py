"""A result file that grows, and goes on where it was after a kill.

While ``NAME`` is being made, ``.NAME.partial`` holds what there is of it, and ``.NAME.journal`` says by which
run and input, and up to which byte it is sound. Whatever the moment of a kill, the file is cut off there.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ._errors import DataError, OutputError
from ._files import check_file_target, named_disk_errors
from ._results import finish

SAVE_SECONDS = 1.0
"""How much work a kill may cost, about."""
LOCK_SECONDS = 5.0
"""How long to wait for another run that is just ending."""


class Partial:
    """See the module; made by `resumable`."""

    def __init__(self, file: IO[bytes], journal: Path, record: bytes) -> None:
        """Cut the file off where its journal says, or at its start if that is of another record."""
        self._file, self._journal, self._record = file, journal, record
        self.units, size = _saved(journal, record)
        self.kept = self.units > 0 and os.fstat(file.fileno()).st_size >= size
        """Whether the journal tells of this file."""
        if not self.kept:
            self.units = size = 0
            journal.unlink(missing_ok=True)
        file.truncate(size)
        file.seek(size)
        self._when = time.monotonic()

    def append(self, unit: bytes) -> None:
        """Write the results of the next unit of work."""
        self._file.write(unit)
        self.units += 1
        if time.monotonic() - self._when >= SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())  # before the journal says so
        with self._journal.open("ab") as journal:
            if not journal.tell():
                journal.write(self._record + b"\n")
            # between two line ends, so that a line which a power cut tore is never read as another
            journal.write(b"\n%d %d.\n" % (self.units, self._file.tell()))
        self.kept = True
        self._when = time.monotonic()


@contextmanager
def resumable(out: Path, record: bytes) -> Iterator[Partial]:
    """Yield what there is of a result file already; where the block ends well it gets its name.

    Args:
        out: the file.
        record: what tells its run and its input from others, one line.

    Raises:
        OutputError: the file cannot be, the disk refuses a write, or another process is at it.
    """
    check_file_target(out)
    path, journal = _paths(out)
    with named_disk_errors(out), path.open("a+b") as file:
        _lock(file, path, out)
        partial = Partial(file, journal, record)
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
        except BaseException as error:
            if finished != path:
                finished.unlink(missing_ok=True)
            if isinstance(error, DataError) or not partial.kept:  # wrong input will be another one
                path.unlink(missing_ok=True)
                journal.unlink(missing_ok=True)
            raise


def saved_units(out: Path, record: bytes) -> int:
    """Return how many units of a result file there are already."""
    path, journal = _paths(out)
    units, size = _saved(journal, record)
    return units if path.is_file() and path.stat().st_size >= size else 0


def journal_record(out: Path) -> bytes | None:
    """Return the record of the run that did not finish a result file, if there is one."""
    with suppress(OSError):
        return _paths(out)[1].read_bytes().partition(b"\n")[0]
    return None


def _paths(out: Path) -> tuple[Path, Path]:
    return out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.journal")


def _saved(journal: Path, record: bytes) -> tuple[int, int]:
    """Return what the last whole line of a journal says, units and bytes; 0 where the record is another."""
    try:
        first, *lines = journal.read_bytes().split(b"\n")[:-1]
        if first != record:
            return 0, 0
        units, size = map(int, [line for line in lines if line.endswith(b".")][-1][:-1].split())
    except (OSError, ValueError, IndexError):
        return 0, 0
    return units, size


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
