"""The commands ``edgeae evaluate`` and ``edgeae report``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgeae_export.config import ExportConfig
from edgeae_runtime.cli import step_bar

from ..config import NOISES

F = TypeVar("F", bound=Callable[..., Any])


def _label_options(command: F) -> F:
    """Add the options of both commands that say what is known of the rows."""
    for decorate in reversed(
        [
            click.option(
                "--labels",
                type=click.Path(path_type=Path),
                help="A label for each row: a table of one column, .npy, .npz, IDX; or .json with the "
                "periods [[start, end], ...] in which a series was abnormal.",
            ),
            click.option("--label-column", metavar="NAME", help="Column of DATA, a table, with the labels."),
            click.option(
                "--normal",
                metavar="LABEL",
                help="Label of the normal rows; all others are anomalies. Without it 0 is normal, 1 is not.",
            ),
            click.option(
                "--fit-data",
                type=click.Path(path_type=Path),
                help="Normal rows that PCA and isolation forest are fitted on, such as the training data.  "
                "[default: the run's held-out rows; for a bundle, half of DATA]",
            ),
            click.option(
                "--threshold",
                default=ExportConfig().threshold,
                show_default=True,
                help="Rule for the threshold of a run and of the baselines; a bundle has its own.",
            ),
            click.option(
                "--seed",
                type=click.IntRange(0, 2**32 - 1),
                default=0,
                show_default=True,
                help="Of the splits, the noise and the clustering.",
            ),
        ]
    ):
        command = decorate(command)
    return command


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@_label_options
@click.option(
    "--noise",
    type=click.Choice([*NOISES, "none"]),
    multiple=True,
    default=NOISES,
    show_default=True,
    help="Kind of noise for the robustness curves; give it once a kind.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures here as well.")
def evaluate(
    model: Path, data: Path, noise: tuple[Any, ...], json_file: Path | None, **settings: Any
) -> None:
    """Measure what a run or a bundle (MODEL) makes of DATA, beside PCA and a plain copy.

    Of a run the Keras model is evaluated, of a bundle every scorer, so that float and int8 stand side by
    side. With labels it also shows what the code is good for, or how well the error separates anomalies.

    \b
    Examples:
      edgeae evaluate fashion.run t10k-images-idx3-ubyte.gz --labels t10k-labels-idx1-ubyte.gz
      edgeae evaluate pump.edgeae readings.csv --label-column state --normal ok --json figures.json
      edgeae evaluate temperature.run rest.csv --labels failures.json --fit-data first.csv
    """
    import msgspec

    from edgeae_export.quiet import import_tensorflow
    from edgeae_runtime.files import check_file_target, new_file

    if json_file is not None:
        check_file_target(json_file)
    import_tensorflow(command=True)
    from ..evaluation.evaluate import STEPS
    from ..evaluation.files import evaluate_files
    from ..evaluation.tables import as_text

    kinds = tuple(kind for kind in noise if kind != "none")
    with step_bar("Evaluating", STEPS) as step:
        evaluation = evaluate_files(model, data, noise=kinds, progress=step, **settings).evaluation
    click.echo(as_text(evaluation))
    if json_file is not None:
        with new_file(json_file) as file:
            file.write_bytes(msgspec.json.format(msgspec.json.encode(evaluation)) + b"\n")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The page, NAME.html.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Rows to show and to measure on.  [default: the run's held-out rows]",
)
@click.option("--bundle", type=click.Path(path_type=Path), help="What was exported: adds the fidelity table.")
@_label_options
@click.option("--force", is_flag=True, help="Replace a page that is already there.")
def report(run: Path, out: Path, force: bool, **settings: Any) -> None:
    """Show in one page whether a run learned anything.

    The page is a single HTML file that needs no network and opens on a phone: loss curves, latent space,
    reconstructions, what noise does, and with labels what the code is good for.

    \b
    Examples:
      edgeae report pump.run --out report.html
      edgeae report fashion.run --out report.html --bundle fashion.edgeae \\
          --data t10k-images-idx3-ubyte.gz --labels t10k-labels-idx1-ubyte.gz
    """
    from edgeae_export.quiet import import_tensorflow
    from edgeae_runtime.files import check_file_target, check_target

    check_target(out, force=force)
    check_file_target(out)
    import_tensorflow(command=True)
    from ..report.report import STEPS, write_report

    with step_bar("Evaluating", STEPS) as step:
        size = write_report(run, out, progress=step, **settings)
    click.echo(f"{out}: {size / 1000:,.0f} kB; open it in any browser, no network needed")
