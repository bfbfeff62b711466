"""The options of ``edgeae train`` for what is read, and a line that reports what was found."""

import csv
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeae_runtime.errors import DataError

if TYPE_CHECKING:
    from ..data.dataset import Data

F = TypeVar("F", bound=Callable[..., Any])


def data_options(command: F) -> F:
    """Add DATA and its options, which `read_data` takes."""
    for decorate in reversed(
        [
            click.argument("data", nargs=-1, required=True),
            click.option("--columns", metavar="A,B,…", help="Features of a table.  [default: all numbers]"),
            click.option("--label-column", metavar="NAME", help="Column of a table that holds labels."),
            click.option("--normal", metavar="LABEL", help="Train on the rows with this label only."),
            click.option(
                "--window",
                type=click.IntRange(min=1),
                help="Take DATA as series, and so many readings, one after another, as a sample.",
            ),
            click.option(
                "--stride",
                type=click.IntRange(min=1),
                help="Readings from the start of a window to that of the next.  [default: 1]",
            ),
        ]
    ):
        command = decorate(command)
    return command


def read_data(
    data: Sequence[str],
    columns: str | None,
    label_column: str | None,
    normal: str | None,
    window: int | None,
    stride: int | None,
) -> "Data":
    """Read what the options of `data_options` name, and report the windows on standard error.

    Raises:
        DataError: as `edgeae.load_data`; or options that do not go together.
    """
    from ..data.load import load_data

    if stride is not None and window is None:
        raise DataError("--stride is that of windows; pass --window too")
    if normal is not None and label_column is None and tuple(data) != ("digits",):
        raise DataError("--normal is one of the labels; pass --label-column too")
    names = None if columns is None else [name.strip() for name in next(csv.reader([columns]), [])]
    found = load_data(
        list(data) if len(data) > 1 else data[0],
        columns=names,
        label_column=label_column,
        normal=normal,
        window=window,
        stride=stride or 1,
    )
    if names is not None and found.features is None:
        raise DataError(f"{data[0]}: has no columns to choose from; leave out --columns")
    if found.segments is not None and window is not None:
        count = sum(map(len, found.segments))
        click.echo(
            f"{len(found.values):,} windows of {window:,} readings in {count:,} uninterrupted "
            f"segment{'s' * (count != 1)}",
            err=True,
        )
    return found
