"""The command ``edgeae export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeae_runtime.cli import chosen, format_table, setting_options, step_bar
from edgeae_runtime.names import MANIFEST_NAME

from .config import ExportConfig
from .fidelity.table import fidelity_table

if TYPE_CHECKING:
    from edgeae_runtime import Scaler


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bundle, NAME.edgeae.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Normal samples that the model was not trained on; a run folder has its own.",
)
@click.option("--encoder", type=click.Path(path_type=Path), help="Encoder's model file, instead of MODEL.")
@click.option("--decoder", type=click.Path(path_type=Path), help="Decoder's model file, instead of MODEL.")
@click.option("--latent-layer", metavar="NAME", help="Layer whose output is the code, if it is not found.")
@click.option(
    "scaler",
    "--raw-range",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Raw values that a model file sees as 0 and 1, such as 0 255; a run folder has its own scaler.",
)
@setting_options(ExportConfig, "export")
@click.option(
    "--labels", type=click.Path(path_type=Path), help="0 (normal) or 1 (anomalous) for each row of --data."
)
@click.option("--zip", "as_zip", is_flag=True, help="Write one uncompressed zip file instead of a folder.")
@click.option("--keep-passing", is_flag=True, help="Write the faithful artifacts though others are not.")
@click.option("--force", is_flag=True, help="Replace a bundle that is already there.")
def export(
    model: Path | None, out: Path, encoder: Path | None, decoder: Path | None, **settings: Any
) -> None:
    """Export a trained autoencoder to a bundle for the device.

    MODEL is a folder made by `edgeae train`, a .keras file, or a .h5 file of Keras 2. Every artifact is
    compared with the float Keras model on held-out rows. Where one differs by more than the limits allow,
    the exit status is 3 and nothing is written, unless --keep-passing is given. The limits that options
    set hold for the quantized artifacts.

    \b
    Examples:
      edgeae export pump.run --out pump.edgeae
      edgeae export old.h5 --data normal.csv --out pump.edgeae --threshold sigma:3
      edgeae export pump.run --out pump.edgeae --config settings.toml
      edgeae export --encoder e.keras --decoder d.keras --data images.npy --raw-range 0 255 --out x.edgeae
    """
    from edgeae_runtime.files import check_target

    from .quiet import import_tensorflow

    config = chosen(ExportConfig, "export", settings)
    check_target(out, force=settings["force"], mark=MANIFEST_NAME)
    pair = (encoder, decoder)
    if (model is None) == (encoder is None) or (encoder is None) != (decoder is None):
        raise click.UsageError("name a MODEL, or both --encoder and --decoder")
    import_tensorflow(command=True)
    from .pipeline import export_source, open_source, options_of

    options = options_of(config)
    source = open_source(
        model or pair,
        settings["data"],
        labels=settings["labels"],
        scaler=_scaler(settings["scaler"]),
        latent_layer=settings["latent_layer"],
    )
    with step_bar("Exporting", len(options.kinds())) as step:
        manifest = export_source(
            source,
            out,
            options,
            as_zip=settings["as_zip"],
            keep_passing=settings["keep_passing"],
            force=settings["force"],
            progress=step,
            report=lambda judged: click.echo("\n" + format_table(fidelity_table(judged))),
        )
    refused = len(options.kinds()) - len(manifest.artifacts)
    click.echo(
        f"\n{out}: {len(manifest.artifacts)} faithful artifacts" + (f", {refused} refused" if refused else "")
    )
    if refused:
        raise SystemExit(3)


def _scaler(raw_range: tuple[float, float] | None) -> "Scaler":
    from edgeae_runtime import Scaler

    from .source import UNSCALED

    if raw_range is None:
        return UNSCALED
    low, high = raw_range
    if not low < high:
        raise click.UsageError(f"--raw-range: {low:g} is not below {high:g}")
    return Scaler(kind="minmax", offset=(low,), gain=(1 / (high - low),))
