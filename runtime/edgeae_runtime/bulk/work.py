"""Many rows through a bundle: files of any size, on all cores, in bounded memory.

A file is cut into units of work (see `samples.unit_rows`), each of which becomes bytes of the result, in
order.
"""

import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..autoencoder import load
from ..bundle.archive import Bundle
from ..engines.base import BATCH_ROWS
from ..engines.registry import find_engine
from ..errors import BundleError
from .job import BulkRun, Command, Job
from .results import encode
from .resume import read_run, resumable
from .samples import NumberedSamples, Progress, Results, apply, sample_units

Item = TypeVar("Item")
Result = TypeVar("Result")


class Worker:
    """A loaded bundle that makes bytes of samples; each process has one."""

    def __init__(self, job: Job) -> None:
        """Load the bundle.

        Raises:
            BundleError: it is not the one that the run was begun with.
        """
        self._command, self._suffix = job.run.command, job.run.suffix
        self._autoencoder = load(job.bundle, engine=job.run.engine, precision=job.run.precision)
        if self._autoencoder.digest != job.run.bundle:
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
    digest = Bundle(bundle).digest
    before = None if out is None else read_run(out)
    if before and before.bundle == digest:
        pair = before.engine, before.precision
        if engine in ("auto", pair[0]) and precision in ("auto", pair[1]):
            engine, precision = pair
    found = load(bundle, engine=engine, precision=precision, rows=BATCH_ROWS)
    record = find_engine(found.engine)
    try:
        installed = version(record.distribution)
    except PackageNotFoundError:
        found._load("encoder" if command == "embed" else "scorer")  # raises for what is missing
        installed = sys.modules[record.package].__version__  # a build of another name
    versions = {"edgeae-runtime": version("edgeae-runtime"), record.distribution: installed}
    run = BulkRun(command, digest, record.name, found.precision, versions, suffix)
    return Job(bundle, found.manifest.input, run)


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
