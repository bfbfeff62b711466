"""The commands that put many rows through a bundle: ``embed`` and ``score``."""

import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import click

from ..engines.registry import EngineName
from ..errors import EdgeaeWarning
from ..extras import import_extra
from ..names import PRECISIONS, RESULT_SUFFIXES
from .terminal import progress_bar

_STEPS = 1000  # of the progress bar
_PATH: Any = click.Path(path_type=Path)
_PARAMS: list[click.Parameter] = [
    click.Argument(["bundle"], type=_PATH),
    click.Argument(["data"], nargs=-1, required=True, metavar="DATA...", type=_PATH),
    click.Option(
        ["-o", "--out"],
        type=_PATH,
        help="Write to this file (.npy, .csv, .jsonl or .parquet), or with several DATA to this folder; "
        "without it JSON lines go to standard output.",
    ),
    click.Option(
        ["--format", "suffix"],
        type=click.Choice([suffix[1:] for suffix in RESULT_SUFFIXES]),
        help="Of the files in the folder OUT; with it, OUT is a folder for a single DATA too. [default: csv]",
    ),
    click.Option(
        ["--engine"],
        type=click.Choice([*get_args(EngineName), "ray"]),
        metavar=f"[{'|'.join(get_args(EngineName))}]",  # without ray, the old spelling of --on ray
        default="auto",
        show_default=True,
        help="Inference engine.",
    ),
    click.Option(
        ["--on", "place"],
        type=click.Choice(["ray"]),
        help="Where to run: on the workers of a Ray cluster. [default: this machine]",
    ),
    click.Option(
        ["--precision"],
        type=click.Choice(["auto", *PRECISIONS]),
        default="auto",
        show_default=True,
        help="Which of the bundle's artifacts to run.",
    ),
    click.Option(
        ["--threads"],
        type=click.IntRange(min=1),
        help="How many batches, or files, are worked on at once; results do not depend on it. "
        "[default: all cores; with ray those of the cluster]",
    ),
]


@click.command(params=[*_PARAMS])
def embed(**options: Any) -> None:
    """Compute the embedding of each row of DATA, in raw units.

    DATA is a .csv, .jsonl, .ndjson, .wav, .parquet, .npy, .npz or IDX file, the first four and IDX also as
    .gz, .xz or .bz2; or - for standard input: a CSV, JSON lines or WAV, which its first bytes decide.

    It may be larger than memory. Where the bundle was trained on windows, each file is a series of
    readings, and a row of the result is a window, with the number of its last reading. Run again after an
    interruption, it goes on where it was; of several DATA it skips those that are done.

    \b
    Examples:
      edgeae embed fashion.edgeae t10k-images-idx3-ubyte.gz -o codes.npy
      edgeae embed pump.edgeae readings.csv --precision float32 > codes.jsonl
      edgeae embed pump.edgeae lake/*.parquet -o codes --format parquet
      edgeae embed motor.edgeae motor.wav -o codes.npy
    """
    _run("embed", **options)


@click.command(params=[*_PARAMS])
def score(**options: Any) -> None:
    """Compute the reconstruction error of each row of DATA and compare it with the threshold.

    A .npy result holds the errors alone; the others also hold the threshold and the verdict.

    DATA is a .csv, .jsonl, .ndjson, .wav, .parquet, .npy, .npz or IDX file, the first four and IDX also as
    .gz, .xz or .bz2; or - for standard input: a CSV, JSON lines or WAV, which its first bytes decide.

    It may be larger than memory. Where the bundle was trained on windows, each file is a series of
    readings, and a row of the result is a window, with the number of its last reading. Run again after an
    interruption, it goes on where it was; of several DATA it skips those that are done.

    \b
    Examples:
      edgeae score pump.edgeae readings.csv
      edgeae score pump.edgeae log.csv.gz -o errors.csv
      ssh pump cat log.jsonl | edgeae score pump.edgeae -
      edgeae score pump.edgeae lake/*.parquet -o errors --format parquet
      edgeae score pump.edgeae lake/*.parquet -o errors --on ray
    """
    _run("score", **options)


def _run(
    command: Literal["embed", "score"],
    bundle: Path,
    data: tuple[Path, ...],
    out: Path | None,
    suffix: str | None,
    engine: str,
    place: str | None,
    precision: str,
    threads: int | None,
) -> None:
    from ..bulk.processes import open_folder, result_paths, run_files
    from ..bulk.ray import ray_files, ray_results
    from ..bulk.results import check_not_input, check_output
    from ..bulk.resume import is_done
    from ..bulk.work import plan, results
    from ..readers.source import is_standard_input

    if engine == "ray":
        warnings.warn(
            "--engine ray is spelled --on ray now; the old way still works", EdgeaeWarning, stacklevel=2
        )
        engine, place = "auto", "ray"
    folder = len(data) > 1 or suffix is not None
    if folder and out is None:
        raise click.UsageError("several DATA, or --format, need --out FOLDER")
    if any(map(is_standard_input, data)) and (folder or place == "ray"):
        raise click.UsageError(
            "DATA - is standard input, which goes alone, into one file and not to a cluster; leave out "
            "--format and --on ray, or name files"
        )
    if not folder:
        check_output(out)
    ending = f".{suffix or 'csv'}" if folder else ".jsonl" if out is None else out.suffix
    if ending == ".parquet":
        import_extra("pyarrow.parquet")  # fails before any work
    outs = [] if out is None else result_paths(data, out, ending) if folder else [out]
    pairs = list(zip(data, outs, strict=False))
    for path, result in pairs:
        check_not_input(path, result)
    job = plan(command, bundle, engine, precision, out, ending)
    if place == "ray":
        lines, files = partial(ray_results, workers=threads), partial(ray_files, workers=threads)
    else:
        threads = threads or len(os.sched_getaffinity(0))
        lines, files = partial(results, threads=threads), partial(run_files, threads=threads)
    with progress_bar({"embed": "Embedding", "score": "Scoring"}[command], _STEPS) as bar:

        def progress(share: float) -> None:
            bar.update(int(share * _STEPS) - bar.pos)

        if out is None:
            for unit in lines(job, data[0], progress=progress):
                sys.stdout.buffer.write(unit)
                sys.stdout.buffer.flush()
        elif not folder:
            files(job, pairs, progress=progress)
        else:
            open_folder(out, job.run)
            left = [(path, result) for path, result in pairs if not is_done(result, job.record(path))]
            if len(left) < len(pairs):
                click.echo(f"{out}: {len(pairs) - len(left)} of {len(pairs)} are done already", err=True)
            if left:
                files(job, left, progress=progress)
