"""Many files through a bundle: a folder with one result a file, by several processes.

Beside a result ``NAME`` lies ``.NAME.done``, which says of which input it is; a later run does what is left.
"""

import itertools
import multiprocessing
import os
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import msgspec

from ._bulk import FOLDER_RECORD, Job, Progress, Run, read_run, run_file
from ._errors import EdgeaeWarning, OutputError
from ._files import check_target, named_disk_errors, new_folder

_SHOWN_EVERY = 0.5  # seconds
_shares: Any = None  # in a worker process: of each file, the share that has been read


def result_paths(files: Sequence[Path], out: Path, suffix: str) -> list[Path]:
    """Return where the result of each file goes.

    Raises:
        OutputError: two would be one.
    """
    paths = [out / f"{file.stem}{suffix}" for file in files]
    counts = Counter(paths)
    for file, path in zip(files, paths, strict=True):
        if counts[path] > 1:
            raise OutputError(
                f"{path}: would be the result of {file} and of another; rename one, or use two folders"
            )
    return paths


def open_folder(out: Path, run: Run) -> None:
    """Make a folder for the results of a run, or see that it is one.

    Raises:
        OutputError: it holds something else, or results of another run.
    """
    check_target(out, force=True, mark=FOLDER_RECORD)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; the results of several files need a folder")
    before = read_run(out)
    if before is not None and before != run:
        fields = [name for name in Run.__struct_fields__ if getattr(before, name) != getattr(run, name)]
        raise OutputError(
            f"{out}: holds results that differ in {', '.join(fields)}; choose another folder, or remove it"
        )
    if before is None and out.is_dir() and os.listdir(out):
        raise OutputError(f"{out}: its {FOLDER_RECORD} cannot be read; choose another folder")
    if before is None:
        with new_folder(out, force=True, mark=FOLDER_RECORD) as fresh:
            (fresh / FOLDER_RECORD).write_bytes(msgspec.json.encode(run))


def is_done(out: Path, record: bytes) -> bool:
    """Tell whether a result is there, whole, and of this record."""
    try:
        return _done(out).read_bytes() == record + b"\n%d\n" % out.stat().st_size
    except OSError:
        return False


def mark_done(out: Path, record: bytes) -> None:
    """Note beside a result of which record it is."""
    with named_disk_errors(out):  # half of it is as good as none
        _done(out).write_bytes(record + b"\n%d\n" % out.stat().st_size)


def _done(out: Path) -> Path:
    return out.with_name(f".{out.name}.done")


def run_files(
    job: Job,
    files: Sequence[tuple[Path, Path]],
    *,
    threads: int,
    progress: Progress,
    note: bool = False,
) -> None:
    """Make the results of several files, each by a process of its own, or of one by threads.

    Args:
        job: what to do.
        files: each input, and where its result goes.
        threads: how many processes; where there are fewer files, each has several threads.
        progress: told which share of all bytes has been read.
        note: whether to `mark_done`.

    Raises:
        DataError, OutputError: see `run_file`; of the first file that fails. Those under way are finished.
    """
    sizes = [path.stat().st_size if path.is_file() else 0 for path, _ in files]
    shares: Any = [0.0] * len(files)

    def show() -> None:
        progress(sum(share * size for share, size in zip(shares, sizes, strict=True)) / (sum(sizes) or 1))

    processes = min(threads, len(files))
    if processes <= 1:
        for place, (path, out) in enumerate(files):

            def share_read(share: float, place: int = place) -> None:
                shares[place] = share
                show()

            _one(job, path, out, threads, share_read, note)
        return
    context = multiprocessing.get_context("spawn")  # engines do not survive a fork
    shares = context.Array("d", len(files), lock=False)
    with ProcessPoolExecutor(processes, context, _begin, (shares,)) as pool:
        futures = [
            pool.submit(_in_process, job, path, out, threads // processes, place, note)
            for place, (path, out) in enumerate(files)
        ]
        left: Iterable[Future[list[str]]] = futures
        try:
            while left:
                done, left = wait(left, _SHOWN_EVERY, FIRST_EXCEPTION)
                show()
                for message in itertools.chain.from_iterable(future.result() for future in done):
                    warnings.warn(message, EdgeaeWarning, stacklevel=2)
        finally:
            pool.shutdown(cancel_futures=True)


def _one(job: Job, path: Path, out: Path, threads: int, progress: Progress, note: bool) -> None:
    record = job.record(path)
    run_file(job, path, out, threads, progress)
    if note:
        mark_done(out, record)


def _begin(shares: Any) -> None:
    """Start a worker process: it ends with its parent, however that ends, and without a word."""
    global _shares
    _shares = shares
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _in_process(job: Job, path: Path, out: Path, threads: int, place: int, note: bool) -> list[str]:
    """Do one file; return the warnings."""

    def progress(share: float) -> None:
        _shares[place] = share

    with warnings.catch_warnings(record=True, action="always", category=EdgeaeWarning) as caught:
        _one(job, path, out, threads, progress, note)
    return [str(warning.message) for warning in caught]
