"""The commands ``edgeae train`` and ``edgeae demo``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgeae_runtime.cli import chosen, progress_bar, setting_options

from ..config import TrainConfig, loss_name
from ..training.partial import check_checkpoint, checkpoint_path, discard
from .data_options import data_options, read_data


@click.command()
@data_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the run.")
@setting_options(TrainConfig, "train")
@click.option("--resume", is_flag=True, help="Continue a training that was interrupted, from OUT.partial.")
@click.option("--force", is_flag=True, help="Replace a run that is already there.")
def train(
    data: tuple[str, ...],
    out: Path,
    resume: bool,
    force: bool,
    columns: str | None,
    label_column: str | None,
    normal: str | None,
    window: int | None,
    stride: int | None,
    **settings: Any,
) -> None:
    """Train an autoencoder on the normal samples in DATA.

    DATA is one or more .csv (with a header), .jsonl, .ndjson, .wav, .parquet, .npy, .npz or IDX files, the
    first four and IDX also as .gz, .xz or .bz2; - for standard input; a folder of tables or of pictures
    (.png, .jpg); or `digits`, which scikit-learn ships. Values are in raw units: scaling is fitted
    here and belongs to the model. Dates are no features; with --window they say where a series has gaps.

    \b
    Examples:
      edgeae train digits --out digits.run
      edgeae train pump.csv --out pump.run --hidden 64 --latent 8 --scaler standard
      edgeae train train-images-idx3-ubyte.gz --out fashion.run --arch conv2d
      edgeae train pump.csv --out pump.run --objective denoising --noise 0.2
      edgeae train pump.csv --out pump.run --resume
      edgeae train pump.csv --out pump.run --columns temp,volt --label-column state --normal ok
      edgeae train week1.csv.gz week2.csv.gz --out pump.run --window 60
      edgeae train motor.wav --out motor.run --window 256 --stride 128
      edgeae train pump.csv --out pump.run --config settings.toml --epochs 100
    """
    from edgeae_export.quiet import import_tensorflow
    from edgeae_export.source import RUN_NAME
    from edgeae_runtime.files import check_target

    config = chosen(TrainConfig, "train", settings)
    check_target(out, force=force, mark=RUN_NAME)
    checkpoint = checkpoint_path(out)
    check_checkpoint(checkpoint, resume=resume, force=force)
    samples = read_data(data, columns, label_column, normal, window, stride)
    import_tensorflow(command=True)
    from ..training.train import TrainingError
    from ..training.train import train as run_training

    try:
        with epoch_bar(config.epochs) as progress:
            trained = run_training(samples, config, progress=progress, checkpoint=checkpoint, resume=resume)
    except TrainingError:
        discard(checkpoint)
        raise
    except KeyboardInterrupt:
        click.echo(f"{checkpoint}: kept; continue with the same command and --resume", err=True)
        raise
    trained.save(out, force=force)
    discard(checkpoint)
    losses = trained.history["val_loss"]
    best = min(range(len(losses)), key=losses.__getitem__)
    click.echo(
        f"{out}: {len(samples.values):,} samples, {len(losses)} epochs, best validation "
        f"{loss_name(trained.config)} {losses[best]:.6g} in epoch {best + 1}"
    )
    click.echo(f"Next: edgeae export {out} --out {out.with_suffix('.edgeae')}")


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for the results.",
)
@click.option("--force", is_flag=True, help="Replace the results of an earlier demo.")
def demo(out: Path, force: bool) -> None:
    """Do the whole way on scikit-learn's digits: train, export, run, compare with TensorFlow.

    Takes about a minute; prints one table and writes the run, the bundle and three pictures.

    \b
    Examples:
      edgeae demo
      edgeae demo --out /tmp/edgeae-demo
    """
    from edgeae_export.quiet import import_tensorflow
    from edgeae_runtime.files import check_target

    check_target(out, force=force)
    import_tensorflow(command=True)
    from ..demo import run_demo

    run_demo(out, force=force, epoch_bar=epoch_bar, say=click.echo)


@contextmanager
def epoch_bar(epochs: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Show a progress bar with losses and the time left; silent where standard error is no terminal."""

    def show(logs: dict[str, float] | None) -> str:
        return "" if logs is None else f"loss {logs['loss']:.5f}, validation {logs['val_loss']:.5f}"

    with progress_bar("Training", epochs, show) as bar:
        yield lambda epoch, logs: bar.update(epoch - bar.pos, logs)
