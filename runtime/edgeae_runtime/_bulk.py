"""Many rows through a bundle: files of any size, on all cores, in bounded memory, resumable.

A file is cut into units of work (see `_samples.unit_rows`), each of which becomes bytes of the result, in
order. Several files go to as many processes, the units of one file to threads.
"""

import hashlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, cast

import msgspec
import numpy as np

from ._autoencoder import load
from ._engines import BATCH_ROWS
from ._errors import BundleError
from ._journal import journal_record, resumable
from ._manifest import Input, Manifest, Precision, encode_manifest
from ._results import Results, encode
from ._samples import Samples, apply, sample_units

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress: TypeAlias = Callable[[float], None]
"""Told which share of a file has been read."""

FOLDER_RECORD = ".edgeae.json"
"""In a folder of results: the `Run` that they are of."""
_PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert"}


class Run(msgspec.Struct, frozen=True):
    """What, besides the input, decides about every bit of a result."""

    command: Literal["embed", "score"]
    bundle: str
    """SHA-256 of its manifest, which has those of its files."""
    engine: str
    precision: Precision
    versions: dict[str, str]
    suffix: str
    """Of the result file."""


class Record(msgspec.Struct, frozen=True):
    """A run on one input file."""

    run: Run
    name: str
    size: int
    """Bytes."""
    changed: int
    """When, in nanoseconds since 1970."""


@dataclass(frozen=True)
class Job:
    """How each unit of work is done, wherever: in a thread, a process, or on another machine."""

    bundle: Path
    input: Input
    run: Run

    def record(self, path: Path) -> bytes:
        """Return what tells this job on this file from any other, in one line."""
        stat = path.stat() if path.is_file() else None
        size, changed = (stat.st_size, stat.st_mtime_ns) if stat else (0, 0)
        return msgspec.json.encode(Record(self.run, path.name, size, changed))


class Worker:
    """A loaded bundle that turns units of work into bytes of the result."""

    def __init__(self, job: Job) -> None:
        """Load it, and make sure that it is the bundle of the job."""
        run = self._run = job.run
        self._autoencoder = load(job.bundle, engine=cast(Any, run.engine), precision=run.precision)
        if digest(self._autoencoder.manifest) != run.bundle:
            raise BundleError(f"{job.bundle}: was replaced during the run; start it again")

    def __call__(self, samples: Samples, path: Path, *, first: bool) -> bytes:
        """Return the result of some samples of a file; ``first`` where it begins with them.

        Raises:
            DataError: see `Autoencoder.detect`.
        """
        results = self._embed if self._run.command == "embed" else self._score
        return encode(apply(samples, results, path), self._run.suffix, first=first)

    def _embed(self, samples: np.ndarray) -> Results:
        return {"embedding": self._autoencoder.embed(samples)}

    def _score(self, samples: np.ndarray) -> Results:
        found = self._autoencoder.detect(samples)
        return {"error": found.error, "threshold": found.threshold, "anomaly": found.anomaly}


def plan(
    command: Literal["embed", "score"],
    bundle: Path,
    engine: str,
    precision: str,
    out: Path | None,
    suffix: str,
) -> Job:
    """Settle what ``auto`` means, once: what it meant for the results that are there already, if any.

    Args:
        command: what to compute.
        bundle: its path.
        engine: as for `load`.
        precision: as for `load`.
        out: a result file, or a folder of them; None for standard output.
        suffix: of the result files.

    Raises:
        BundleError: see `load`.
    """
    found = load(bundle, engine=cast(Any, engine), precision=cast(Any, precision), rows=BATCH_ROWS)
    before = None if out is None else read_run(out)
    auto = engine == precision == "auto"
    if auto and before is not None and before.bundle == digest(found.manifest):
        found = load(bundle, engine=cast(Any, before.engine), precision=before.precision)
    package = _PACKAGES[found.engine]
    run = Run(
        command=command,
        bundle=digest(found.manifest),
        engine=found.engine,
        precision=found.precision,
        versions={name: version(name) for name in ("edgeae-runtime", package)},
        suffix=suffix,
    )
    return Job(bundle, found.manifest.input, run)


def digest(manifest: Manifest) -> str:
    """Return what tells one bundle from another."""
    return hashlib.sha256(encode_manifest(manifest)).hexdigest()


def read_run(out: Path) -> Run | None:
    """Return the run that an unfinished result file, or a folder of results, is of, if any."""
    try:
        if out.is_dir():
            return msgspec.json.decode((out / FOLDER_RECORD).read_bytes(), type=Run)
        record = journal_record(out)
        return None if record is None else msgspec.json.decode(record, type=Record).run
    except (OSError, msgspec.DecodeError):
        return None


def results(job: Job, path: Path, threads: int, progress: Progress, skip: int = 0) -> Iterator[bytes]:
    """Yield the result of each unit of a file, in order.

    Args:
        job: what to do.
        path: the input.
        threads: how many work at once.
        progress: told what was read.
        skip: units that are read, but not run.

    Raises:
        DataError: the file cannot be read, or its values cannot be used.
    """
    local = threading.local()

    def work(item: tuple[int, Samples]) -> bytes:
        if not hasattr(local, "worker"):
            local.worker = Worker(job)
        worker: Worker = local.worker
        return worker(item[1], path, first=item[0] == 0)

    units = enumerate(sample_units(job.input, path, progress))
    yield from in_order(work, itertools.islice(units, skip, None), threads)


def run_file(job: Job, path: Path, out: Path, threads: int, progress: Progress) -> None:
    """Make one result file, or go on with it where a run was killed.

    Raises:
        DataError, OutputError: see `results` and `resumable`.
    """
    with resumable(out, job.record(path)) as partial:
        for unit in results(job, path, threads, progress, partial.units):
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
