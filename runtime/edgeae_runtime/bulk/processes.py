"""Many files through a bundle, by several processes."""

import itertools
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..errors import EdgeaeError, EdgeaeWarning, OutputError
from ..files import check_target, new_folder
from ..readers.open import stem
from .job import BulkRun, Job
from .resume import FOLDER_RECORD, read_run
from .samples import Progress
from .work import run_file

_PROGRESS_SECONDS = 0.5  # seconds

_shares: Any = None  # in a worker process: of each file, the share that has been read


def result_paths(files: Sequence[Path], out: Path, suffix: str) -> list[Path]:
    """Return the result's path for each file.

    Raises:
        OutputError: two files would have the same.
    """
    found: dict[Path, Path] = {}
    for file in files:
        path = out / f"{stem(file)}{suffix}"
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
