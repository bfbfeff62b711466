"""The commands ``edgeae train`` and ``edgeae demo``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgeae_export._quiet import import_tensorflow
from edgeae_runtime._files import check_target


@click.command()
@click.argument("data")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the run.")
@click.option(
    "--arch", type=click.Choice(["dense"]), default="dense", show_default=True, help="Kind of network."
)
@click.option(
    "--hidden",
    type=click.IntRange(min=1),
    multiple=True,
    default=(128,),
    show_default=True,
    help="Units of a hidden layer of the encoder; give it once a layer. The decoder mirrors them.",
)
@click.option(
    "--latent",
    type=click.IntRange(min=1),
    help="Units of the code.  [default: 32, or a quarter of the input if less]",
)
@click.option(
    "--loss", type=click.Choice(["mse", "bce"]), default="mse", show_default=True, help="What is minimised."
)
@click.option(
    "--scaler",
    type=click.Choice(["minmax", "standard"]),
    default="minmax",
    show_default=True,
    help="To the range [0, 1], or to mean 0 and variance 1; fitted on the training rows.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=50, show_default=True, help="At most.")
@click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True, help="Rows a step.")
@click.option(
    "--validation-split",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of the rows held out, for early stopping and for thresholds.",
)
@click.option(
    "--patience", type=click.IntRange(min=1), default=5, show_default=True, help="Epochs without progress."
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Adam's step size.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="For repeatability."
)
@click.option("--force", is_flag=True, help="Replace a run that is already there.")
def train(data: str, out: Path, force: bool, **settings: Any) -> None:
    """Train an autoencoder on the normal samples in DATA.

    DATA is a .npy, .npz, .csv (with a header) or IDX file, or `digits`, which scikit-learn ships. Values
    are in raw units: scaling is fitted here and belongs to the model.

    \b
    Examples:
      edgeae train digits --out digits.run
      edgeae train pump.csv --out pump.run --hidden 64 --latent 8 --scaler standard
      edgeae train train-images-idx3-ubyte.gz --out fashion.run --epochs 10
    """
    check_target(out, force=force)
    from ._data import load_data

    samples = load_data(data)
    import_tensorflow()
    from ._train import TrainConfig
    from ._train import train as run_training

    config = TrainConfig(**settings)
    with epoch_bar(config.epochs) as progress:
        trained = run_training(samples, config, progress=progress)
    trained.save(out, force=force)
    best = min(range(len(trained.history["val_loss"])), key=trained.history["val_loss"].__getitem__)
    click.echo(
        f"{out}: {len(samples.values):,} samples, {len(trained.history['loss'])} epochs, best validation "
        f"{config.loss} {trained.history['val_loss'][best]:.6g} in epoch {best + 1}"
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
    check_target(out, force=force)
    import_tensorflow()
    from ._demo import run_demo

    run_demo(out, force=force, epoch_bar=epoch_bar, say=click.echo)


@contextmanager
def epoch_bar(epochs: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Show a progress bar with losses and the time left; silent where standard error is no terminal."""

    def show(logs: dict[str, float] | None) -> str:
        return "" if logs is None else f"loss {logs['loss']:.5f}, validation {logs['val_loss']:.5f}"

    with click.progressbar(
        length=epochs, label="Training", item_show_func=show, hidden=not sys.stderr.isatty(), file=sys.stderr
    ) as bar:
        yield lambda epoch, logs: bar.update(1, logs)
