"""Many files through a bundle, on the workers of a Ray cluster.

One task reads each file and cuts it into the same units as elsewhere; each worker has the bundle loaded;
results come back here in order. Bundle and files must be there under the same path on every machine.
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

from ..engines.quiet import native_messages_muted
from ..errors import EdgeaeError, EdgeaeWarning
from ..extras import import_extra
from .job import Job
from .resume import resumable, saved
from .samples import Progress, sample_units
from .work import Worker

_BLOCK_BYTES = 2**22
"""Bytes that Ray moves at once: about one unit of work, so that all workers get some."""


def ray_results(job: Job, path: Path, *, workers: int | None, progress: Progress) -> Iterator[bytes]:
    """Yield the bytes of a file's result, in order, as a cluster's workers make them."""
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
        with native_messages_muted():  # it logs that the level was set
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
