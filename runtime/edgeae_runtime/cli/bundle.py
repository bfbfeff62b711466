"""The commands ``info`` and ``verify``: what shows and checks a bundle."""

from pathlib import Path

import click

from ..engines.registry import engines_of
from ..errors import FidelityError
from ..names import SEAL_NAME
from .terminal import format_table


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def info(bundle: Path, as_json: bool) -> None:
    """Show what a bundle holds: its input, its artifacts, their fidelity and their thresholds.

    \b
    Examples:
      edgeae info pump.edgeae
      edgeae info pump.edgeae --json
    """
    import msgspec

    from ..bundle.archive import Bundle

    manifest = Bundle(bundle).manifest
    if as_json:
        click.echo(msgspec.json.encode(manifest))
        return
    shape = " x ".join(map(str, manifest.input.shape))
    click.echo(f"{bundle}: input {shape}, embedding {manifest.latent_size}, scaler {manifest.scaler.kind}")
    if manifest.input.features:
        click.echo(f"columns: {', '.join(manifest.input.features)}")
    click.echo(f"error: {manifest.error} in scaled units; threshold by {manifest.reference.rule}")
    needs = f", needs edgeae-runtime {manifest.needs_runtime} or newer" if manifest.needs_runtime else ""
    click.echo(f"format {manifest.format_version}{needs}")
    if manifest.id:
        click.echo(f"id {manifest.id}")
    origin = manifest.provenance
    if origin and origin.name:
        click.echo(f"name: {origin.name}")
    for data in origin.data if origin else ():
        count = "" if data.rows is None else f", {data.rows:,} rows"
        click.echo(f"made with {data.name}{count}, SHA-256 {data.sha256[:12]}…")
    if origin and origin.settings:
        set_to = (f"{name}={value}" for name, value in origin.settings.items() if value is not None)
        click.echo(f"trained with {', '.join(set_to)}")
    click.echo()
    rows = [["artifact", "kB", "threshold", "error moves", "rank corr.", "false alarms"]]
    for artifact in manifest.artifacts:
        fidelity = artifact.fidelity
        kilobytes, threshold = f"{artifact.bytes / 1000:.1f}", f"{artifact.threshold.value:.6g}"
        moves, alarms = f"{fidelity.error_median:.3%}", f"{fidelity.false_alarms:.2%}"
        rows.append([artifact.path, kilobytes, threshold, moves, f"{fidelity.rank_correlation:.5f}", alarms])
    click.echo(format_table(rows))


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Engine threads.")
def verify(bundle: Path, as_json: bool, threads: int) -> None:
    """Check every file's hash, then run each artifact here on the golden inputs.

    Each engine that is installed runs what it can. Exits with 3 where an artifact fails. One whose engine is
    not installed is skipped; what one engine runs right, and another does not, that one refuses.

    \b
    Examples:
      edgeae verify pump.edgeae
      edgeae verify pump.edgeae --json
    """
    import msgspec

    from ..bundle.archive import Bundle
    from ..engines.golden import verify as run_verify

    opened = Bundle(bundle)
    if not opened.sealed:
        click.echo(
            f"{bundle}: has no {SEAL_NAME}, so a change of its manifest would not be noticed", err=True
        )
    checks = run_verify(opened, threads=threads)
    if as_json:
        click.echo(msgspec.json.encode(checks))
    else:
        for check, before in zip(checks, [None, *checks], strict=False):
            again = before is not None and before.artifact == check.artifact
            name = f"{check.artifact} with {check.engine}" if again else check.artifact
            click.echo(f"{check.status:7}  {name}  {check.detail}")
    failed = [check.artifact for check in checks if check.status == "failed"]
    if failed:
        count = len({check.artifact for check in checks})
        raise FidelityError(f"{bundle}: {len(failed)} of {count} artifacts failed: {', '.join(failed)}")
    runnable = {a.path for a in opened.manifest.artifacts if engines_of(a.format)}
    if all(check.status == "skipped" for check in checks if check.artifact in runnable):
        raise FidelityError(f"{bundle}: no engine is installed here that runs any of its artifacts")
