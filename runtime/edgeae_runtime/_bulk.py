"""Many rows through a bundle: files of any size, on all cores, in bounded memory, resumable.

A file is cut into units of work (see `_samples.unit_rows`), each of which becomes bytes of the result, in
order. While a result ``NAME`` grows, ``.NAME.partial`` holds what there is of it, and ``.NAME.journal``
records of which run and input it is, and up to which byte it is sound: there a later run cuts it off and goes
on. In a folder of results ``.NAME.done`` then records of which input a whole one is.
"""

import fcntl
import importlib
import itertools
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, TypeVar

import msgspec
import numpy as np

from ._autoencoder import EngineName, load
from ._bundle import Bundle
from ._engines import BATCH_ROWS, ENGINE_MODULES
from ._errors import BundleError, DataError, OutputError
from ._files import check_file_target, named_disk_errors
from ._manifest import Input, Precision, manifest_digest
from ._samples import NumberedSamples, Progress, Results, apply, encode, finish, sample_units

Item = TypeVar("Item")
Result = TypeVar("Result")
Command: TypeAlias = Literal["embed", "score"]

FOLDER_RECORD = ".edgeae.json"
"""File in a folder of results with the `BulkRun` that made them."""
SAVE_SECONDS = 1.0
"""Seconds between two saves: about so much work a kill may cost."""
LOCK_SECONDS = 5.0
"""Seconds to wait for another process that is at the same result."""


class BulkRun(msgspec.Struct, frozen=True):
    """What, besides the input, decides about every bit of a result."""

    command: Command
    bundle: str
    """SHA-256 of its manifest, which has those of its files."""
    engine: EngineName
    precision: Precision
    versions: dict[str, str]
    suffix: str


_Record: TypeAlias = tuple[BulkRun, str, int, int, int]
"""With the input's path, size, time of change and inode."""


@dataclass(frozen=True)
class Job:
    bundle: Path
    input: Input
    run: BulkRun

    def record(self, path: Path) -> bytes:
        name = os.fsencode(os.path.abspath(path)).decode(errors="backslashreplace")
        found = path.stat() if os.path.isfile(path) else None  # Path.is_file may raise
        state = (found.st_size, found.st_mtime_ns, found.st_ino) if found else (0, 0, 0)
        return msgspec.json.encode((self.run, name, *state))


class Worker:
    def __init__(self, job: Job) -> None:
        self._command, self._suffix = job.run.command, job.run.suffix
        self._autoencoder = load(job.bundle, engine=job.run.engine, precision=job.run.precision)
        if manifest_digest(self._autoencoder.manifest) != job.run.bundle:
            raise BundleError(f"{job.bundle}: was replaced during the run; start it again")

    def __call__(self, samples: NumberedSamples, path: Path, *, first: bool) -> bytes:
        """Return the result of some samples of a file; ``first`` where it begins with them."""
        return encode(apply(samples, self._run, path), self._suffix, first=first)

    def _run(self, samples: np.ndarray) -> Results:
        if self._command == "embed":
            return {"embedding": self._autoencoder.embed(samples)}
        found = self._autoencoder.detect(samples)
        return {"error": found.error, "threshold": found.threshold, "anomaly": found.anomaly}


def plan(command: Command, bundle: Path, engine: Any, precision: Any, out: Path | None, suffix: str) -> Job:
    """Settle what ``auto`` means, once: what it meant for the results that are in ``out`` already, if any.

    ``engine``, ``precision`` and errors are those of `load`; `EngineError` without the engine.
    """
    digest = manifest_digest(Bundle(bundle).manifest)
    before = None if out is None else read_run(out)
    if before and before.bundle == digest:
        pair = before.engine, before.precision
        if engine in ("auto", pair[0]) and precision in ("auto", pair[1]):
            engine, precision = pair
    found = load(bundle, engine=engine, precision=precision, rows=BATCH_ROWS)
    name: Any = found.engine
    module = ENGINE_MODULES[name]
    package = module.replace("_", "-")
    try:
        installed = version(package)
    except PackageNotFoundError:
        found._load("encoder" if command == "embed" else "scorer")  # raises for what is missing
        installed = importlib.import_module(module).__version__  # a build of another name
    versions = {"edgeae-runtime": version("edgeae-runtime"), package: installed}
    return Job(
        bundle, found.manifest.input, BulkRun(command, digest, name, found.precision, versions, suffix)
    )


def read_run(out: Path) -> BulkRun | None:
    try:
        if out.is_dir():
            return msgspec.json.decode((out / FOLDER_RECORD).read_bytes(), type=BulkRun)
        return _decode(_paths(out)[1].read_bytes())[0]
    except (OSError, msgspec.DecodeError):
        return None


def results(job: Job, path: Path, *, threads: int, progress: Progress, skip: int = 0) -> Iterator[bytes]:
    """Yield the result of each unit of a file, in order; ``skip`` some, which are read but not run.

    Raises:
        DataError: the file cannot be read, or its values cannot be used.
    """
    local = threading.local()

    def work(item: tuple[int, NumberedSamples]) -> bytes:
        if not hasattr(local, "worker"):
            local.worker = Worker(job)
        worker: Worker = local.worker
        return worker(item[1], path, first=item[0] == 0)

    units = enumerate(sample_units(job.input, path, progress))
    yield from in_order(work, itertools.islice(units, skip, None), threads)


def run_file(job: Job, path: Path, out: Path, *, threads: int, progress: Progress) -> None:
    """Make one result file, or go on with it."""
    with resumable(out, job.record(path)) as partial:
        for unit in results(job, path, threads=threads, progress=progress, skip=partial.units):
            partial.append(unit)


def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield ``work`` of each item, computed by threads; no more than twice as many items are in memory."""
    if threads == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Partial:
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
        raise OutputError(f"{out}: is the result of {other}; choose another --out, or remove it")
    return done == record + b"\n%d\n" % size


def _decode(content: bytes) -> _Record:
    record: _Record = msgspec.json.decode(content.partition(b"\n")[0], type=_Record)
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
