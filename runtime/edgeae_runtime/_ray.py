"""Many rows through a bundle on a Ray cluster: the units of work of `_bulk`, on the cluster's workers.

Files are read, and cut into the same units, by one task a file; each worker has the bundle loaded; results
come back here in order. Bundle and files must be readable on every machine under the same path, and the same
versions be installed there.
"""

import itertools
import logging
import os
import pickle
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ._bulk import Job, Progress, Worker
from ._engines import _native_messages_muted
from ._errors import DataError, EdgeaeError, EdgeaeWarning
from ._extras import import_extra
from ._folder import mark_done
from ._journal import resumable, saved_units
from ._samples import sample_units

_BLOCK_BYTES = 2**22
"""Of what Ray moves at once: about one unit of work, so that all workers get some."""


def ray_results(job: Job, path: Path, *, workers: int | None, progress: Progress) -> Iterator[bytes]:
    """Yield the result of each unit of a file, in order; see `ray_files`."""
    for _, read, unit in _units(job, [(path, 0)], workers):
        progress(read)
        yield unit


def ray_files(
    job: Job,
    files: Sequence[tuple[Path, Path]],
    *,
    workers: int | None,
    progress: Progress,
    note: bool = False,
) -> None:
    """Make the results of several files, in order.

    Args:
        job: what to do.
        files: each input, and where its result goes.
        workers: how many; None for one on each of the cluster's CPUs.
        progress: told which share of the files has been read.
        note: whether to `mark_done`.

    Raises:
        DataError, OutputError: as without Ray.
        EdgeaeError: Ray is not installed, or the cluster fails.
    """
    records = [job.record(path) for path, _ in files]
    todo = [(path, saved_units(out, r)) for (path, out), r in zip(files, records, strict=True)]
    units = _units(job, todo, workers)
    for place, of_file in itertools.groupby(units, key=lambda unit: unit[0]):
        out = files[place][1]
        with resumable(out, records[place]) as partial:
            if partial.units != todo[place][1]:
                raise EdgeaeError(f"{out}: was changed by another process; start again")
            for _, read, unit in of_file:
                partial.append(unit)
                progress((place + read) / len(files))
        if note:
            mark_done(out, records[place])


def _units(
    job: Job, files: Sequence[tuple[Path, int]], workers: int | None
) -> Iterator[tuple[int, float, bytes]]:
    """Yield a file's place, the share of it that was read, and a unit's result; b"" at the end of each."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its maker otherwise
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what is an error for the user is raised
    ray, data = import_extra("ray"), import_extra("ray.data")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if not ray.is_initialized():
        with _native_messages_muted():  # it tells that the level was set
            ray.init(log_to_driver=False, logging_level="error")
    context = data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.target_max_block_size = _BLOCK_BYTES
    context.enable_progress_bars = context.print_on_execution_start = False
    job = replace(job, bundle=job.bundle.absolute())  # a worker has a folder of its own
    items = [{"place": i, "path": str(path.absolute()), "skip": n} for i, (path, n) in enumerate(files)]
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
                if row["warning"]:
                    warnings.warn(row["warning"], EdgeaeWarning, stacklevel=2)
                if row["error"]:
                    raise DataError(row["error"])
                yield row["place"], row["read"], row["data"]
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())
            raise EdgeaeError(f"Ray failed: {reason[-300:]}") from error


def _row(place: int, path: str, read: float, **rest: Any) -> dict[str, list[Any]]:
    filled = {"data": b"", "first": False, "error": "", "warning": ""} | rest
    return {name: [value] for name, value in {"place": place, "path": path, "read": read, **filled}.items()}


def _read(batch: dict[str, Any], job: Job) -> Iterator[dict[str, list[Any]]]:
    """Yield the units of a file, each pickled in one row, and then an empty one."""
    place, path, skip = (batch[name][0] for name in ("place", "path", "skip"))
    read = [0.0]
    with warnings.catch_warnings(record=True, action="always", category=EdgeaeWarning) as caught:
        try:
            units = enumerate(sample_units(job.input, Path(path), lambda share: read.append(share)))
            for number, unit in itertools.islice(units, int(skip), None):
                yield _row(place, path, read[-1], data=pickle.dumps(unit), first=number == 0)
            yield _row(place, path, 1.0, warning="; ".join(str(w.message) for w in caught))
        except EdgeaeError as error:
            yield _row(place, path, 1.0, error=str(error))


class _RayWorker:
    """A `Worker` that takes rows and gives rows."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._worker: Worker | None = None  # loaded where an error can be told

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        data, path, first = (batch[name][0] for name in ("data", "path", "first"))
        if data:
            try:
                self._worker = self._worker or Worker(self._job)
                batch["data"] = [self._worker(pickle.loads(data), Path(path), first=bool(first))]
            except EdgeaeError as error:
                batch |= {"data": [b""], "error": [str(error)]}
        return batch
