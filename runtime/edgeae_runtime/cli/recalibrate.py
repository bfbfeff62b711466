"""The command ``recalibrate``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click

from ..engines.registry import EngineName
from ..errors import DataError
from ..names import PRECISIONS, PrecisionName


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option(
    "--last",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MINUTES",
    help="Take the last MINUTES of DATA alone, which then needs a column of times.",
)
@click.option(
    "--quantile",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=0.99,
    show_default=True,
    help="Share of the normal windows that stays below the threshold.",
)
@click.option(
    "--engine",
    type=click.Choice(get_args(EngineName)),
    default="auto",
    show_default=True,
    help="Inference engine; a threshold holds for one engine and precision.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", *PRECISIONS]),
    default="auto",
    show_default=True,
    help="Which of the bundle's artifacts to run.",
)
@click.option("--reset", is_flag=True, help="Remove the thresholds, so that the bundle's own hold again.")
@click.option("--json", "as_json", is_flag=True, help="Print the threshold as JSON.")
def recalibrate(
    bundle: Path,
    data: Path | None,
    last: float | None,
    quantile: float,
    engine: EngineName,
    precision: PrecisionName,
    reset: bool,
    as_json: bool,
) -> None:
    """Set a new threshold from DATA, readings of normal operation on this very device.

    It is kept beside the bundle in BUNDLE.threshold.json, for the artifact in use, and `edgeae watch` uses
    it as long as the bundle is the same. The bundle itself is left as it is. DATA is a file as for `edgeae
    score`, or - for standard input.

    \b
    Examples:
      edgeae recalibrate pump.edgeae yesterday.csv
      edgeae recalibrate pump.edgeae readings.csv --last 90 --quantile 0.999
      mosquitto_sub -t pump/readings -W 3600 | edgeae recalibrate pump.edgeae -
      edgeae recalibrate pump.edgeae --reset
    """
    import msgspec
    import numpy as np

    from ..autoencoder import load
    from ..bulk.samples import sample_batches
    from ..bundle.recalibration import threshold_path, write_threshold
    from ..bundle.thresholds import new_threshold
    from ..readers.source import source_name

    if reset == (data is not None):
        raise click.UsageError("give either DATA or --reset")
    if data is None:
        path = threshold_path(bundle)
        click.echo(f"{path}: {'removed' if path.exists() else 'there is none'}")
        path.unlink(missing_ok=True)
        return
    autoencoder = load(bundle, engine=engine, precision=precision)
    artifact = autoencoder.artifact
    wanted = autoencoder.manifest.input
    where = source_name(data)
    times: list[Any] | None = None if last is None else []
    batches = sample_batches(wanted, data, times=times)
    scored = [(np.asarray(rows), autoencoder.score(found)) for rows, found in batches]
    rows, errors = map(np.concatenate, zip(*scored, strict=True))
    first = 0 if last is None else _first_row(times or [], where, last) + (wanted.window or 1) - 1
    rows, errors = rows[rows >= first], errors[rows >= first]
    if len(lost := rows[np.isinf(errors)]):
        raise DataError(
            f"{where}: {len(lost):,} of {len(rows):,} errors are infinite, the first at row {lost[0]:,}: "
            "readings so far from the training data are not normal operation; leave them out"
        )
    threshold = new_threshold(errors, quantile=quantile)
    path = write_threshold(bundle, artifact, threshold)
    if as_json:
        click.echo(msgspec.json.encode(threshold))
        return
    was = autoencoder.threshold.value
    click.echo(f"{artifact}: threshold {threshold.value:.6g} from {threshold.rows:,} windows (was {was:.6g})")
    click.echo(f"{np.mean(errors > was):.2%} of them are above the bundle's own")
    click.echo(f"kept in {path}")


def _first_row(found: Sequence[Any], where: str, minutes: float) -> int:
    """Return the number of the first row that is of the last minutes; ``found`` are the times, in pieces."""
    import numpy as np

    if any(times is None for times in found):
        raise DataError(f"{where}: has no column of times, which --last needs; give the readings alone")
    times = np.concatenate(found)
    return int(np.argmax(times > times.max() - np.timedelta64(round(minutes * 60e6), "us"))) + 1
