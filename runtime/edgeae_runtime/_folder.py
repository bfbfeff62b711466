"""Many files through a bundle: by several processes, or on the workers of a Ray cluster.

On Ray one task reads each file and cuts it into the same units; each worker has the bundle loaded; results
come back here in order. Bundle and files must be there under the same path on every machine.
"""

import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ._bulk import FOLDER_RECORD, BulkRun, Job, Worker, read_run, resumable, run_file, saved
from ._engines import _native_messages_muted
from ._errors import EdgeaeError, EdgeaeWarning, OutputError, import_extra
from ._files import check_target, new_folder
from ._samples import Progress, sample_units

_PROGRESS_SECONDS = 0.5  # seconds
_BLOCK_BYTES = 2**22
"""Bytes that Ray moves at once: about one unit of work, so that all workers get some."""
_shares: Any = None  # in a worker process: of each file, the share that has been read


def result_paths(files: Sequence[Path], out: Path, suffix: str) -> list[Path]:
    found: dict[Path, Path] = {}
    for file in files:
        path = out / f"{file.stem}{suffix}"
        if path in found:
            raise OutputError(
                f"{path}: would be the result of {found[path]} and of another; rename one, or use two folders"
            )
        found[path] = file
    return list(found)


def open_folder(out: Path, run: BulkRun) -> None:
    """Make a folder for the results of a run, or see that it is one."""
    check_target(out, force=True, mark=FOLDER_RECORD)
    if os.path.exists(out) and not out.is_dir():
        raise OutputError(f"{out}: is a file; the results of several files need a folder")
    if not os.path.exists(out) or not os.listdir(out):
        with new_folder(out, force=True, mark=FOLDER_RECORD) as fresh:
            (fresh / FOLDER_RECORD).write_bytes(msgspec.json.encode(run))
        return
    before = read_run(out)
    if before is None:
        raise OutputError(f"{out}: its {FOLDER_RECORD} cannot be read; choose another folder")
    differs = [name for name in BulkRun.__struct_fields__ if getattr(before, name) != getattr(run, name)]
    if differs:
        raise OutputError(
            f"{out}: holds results that differ in {', '.join(differs)}; choose another folder, or remove it"
        )


def run_files(job: Job, files: Sequence[tuple[Path, Path]], *, threads: int, progress: Progress) -> None:
    """Make the result of each input, in a process of its own, or one by one with threads.

    Where there are fewer files than threads, each process has several. Of the first that fails the error is
    raised; those under way are finished.
    """
    sizes = np.array([path.stat().st_size if os.path.isfile(path) else 0 for path, _ in files])
    weights = sizes / (sizes.sum() or 1)
    processes = min(threads, len(files))
    if processes <= 1:
        before = 0.0
        for (path, out), weight in zip(files, weights.tolist(), strict=True):

            def show(share: float, before: float = before, weight: float = weight) -> None:
                progress(before + share * weight)

            run_file(job, path, out, threads=threads, progress=show)
            before += weight
        return
    context = multiprocessing.get_context("spawn")  # engines do not survive a fork
    shares = context.Array("d", len(files), lock=False)
    with ProcessPoolExecutor(processes, context, _begin, (shares,)) as pool:
        try:
            left: Iterable[Future[list[str]]] = [
                pool.submit(_in_process, job, path, out, threads // processes, place)
                for place, (path, out) in enumerate(files)
            ]
            while left:
                done, left = wait(left, _PROGRESS_SECONDS, FIRST_EXCEPTION)
                progress(float(np.dot(shares, weights)))
                for message in itertools.chain.from_iterable(future.result() for future in done):
                    warnings.warn(message, EdgeaeWarning, stacklevel=2)
        except BrokenProcessPool as error:
            raise EdgeaeError(
                "a worker process was killed (out of memory?); give the same command again"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(shares: Any) -> None:
    """Start a worker process: it ends with its parent, however that ends."""
    global _shares
    _shares = shares
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _in_process(job: Job, path: Path, out: Path, threads: int, place: int) -> list[str]:

    def progress(share: float) -> None:
        _shares[place] = share

    with warnings.catch_warnings(record=True, action="always", category=EdgeaeWarning) as caught:
        run_file(job, path, out, threads=threads, progress=progress)
    return [str(warning.message) for warning in caught]


def ray_results(job: Job, path: Path, *, workers: int | None, progress: Progress) -> Iterator[bytes]:
    for _, read, unit in _units(job, [(path, 0)], workers):
        progress(read)
        yield unit


def ray_files(
    job: Job, files: Sequence[tuple[Path, Path]], *, workers: int | None, progress: Progress
) -> None:
    """Do as `run_files` with ``workers`` of a cluster, None for one on each CPU."""
    records = [job.record(path) for path, _ in files]
    todo = [(path, saved(out, r)[0]) for (path, out), r in zip(files, records, strict=True)]
    units = _units(job, todo, workers)
    for place, of_file in itertools.groupby(units, key=lambda unit: unit[0]):
        out = files[place][1]
        with resumable(out, records[place]) as partial:
            if partial.units != todo[place][1]:
                raise EdgeaeError(f"{out}: was changed by another process; start again")
            for _, read, unit in of_file:
                partial.append(unit)
                progress((place + read) / len(files))


def _units(
    job: Job, files: Sequence[tuple[Path, int]], workers: int | None
) -> Iterator[tuple[int, float, bytes]]:
    """Yield a file's place, the share of it that was read, and a unit's result; b"" at the end of each."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its maker otherwise
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what is an error for the user is raised
    ray, data = import_extra("ray"), import_extra("ray.data")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if not ray.is_initialized():
        with _native_messages_muted():  # it logs that the level was set
            ray.init(log_to_driver=False, logging_level="error")
    context = data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.target_max_block_size = _BLOCK_BYTES
    context.enable_progress_bars = context.print_on_execution_start = False
    job = replace(job, bundle=job.bundle.absolute())  # a worker has a folder of its own
    items = [{"row": pickle.dumps((i, path.absolute(), skip))} for i, (path, skip) in enumerate(files)]
    workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    with data.DataContext.current(context):
        found = (
            data.from_items(items, override_num_blocks=len(items))
            .map_batches(_read, batch_size=1, fn_args=(job,), num_cpus=0)  # the workers have all CPUs
            .map_batches(
                _RayWorker,
                batch_size=1,
                fn_constructor_args=(job,),
                compute=data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
                num_cpus=1,
            )
        )
        try:
            for row in found.iter_rows():
                place, read, unit, problems = pickle.loads(row["row"])
                for problem in problems:
                    if not isinstance(problem, EdgeaeWarning):
                        raise problem
                    warnings.warn(problem, stacklevel=2)
                yield place, read, unit
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())
            raise EdgeaeError(f"Ray failed: {reason[-300:]}") from error


def _row(*values: Any) -> dict[str, list[bytes]]:
    return {"row": [pickle.dumps(values)]}


def _read(batch: dict[str, Any], job: Job) -> Iterator[dict[str, list[bytes]]]:
    place, path, skip = pickle.loads(batch["row"][0])
    read = [0.0]
    with warnings.catch_warnings(record=True, action="always", category=EdgeaeWarning) as caught:
        try:
            units = enumerate(sample_units(job.input, path, read.append))
            for numbered in itertools.islice(units, skip, None):
                yield _row(place, path, read[-1], numbered, [])
            yield _row(place, path, 1.0, None, [warning.message for warning in caught])
        except EdgeaeError as error:
            yield _row(place, path, 1.0, None, [error])


class _RayWorker:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._worker: Worker | None = None  # loaded where an error can be reported

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        place, path, read, numbered, problems = pickle.loads(batch["row"][0])
        result = b""
        if numbered is not None:
            try:
                self._worker = self._worker or Worker(self._job)
                result = self._worker(numbered[1], path, first=numbered[0] == 0)
            except EdgeaeError as error:
                problems = [error]
        return _row(place, read, result, problems)
