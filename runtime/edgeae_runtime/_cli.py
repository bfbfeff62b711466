"""The command ``edgeae``: its root, and what shows and checks a bundle.

All subcommands are entry points of the group ``edgeae.commands``. Their modules import at the top only what
is cheap, so that the root can load all of them for a sentence each; the rest is imported inside the commands.
"""

import errno
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click

from . import __version__
from ._errors import EdgeaeError, EdgeaeWarning, FidelityError, format_table
from ._names import ENGINE_FORMATS, SEAL_NAME

GROUPS = {"edgeae": "On a workstation", "edgeae_export": "On a workstation", "edgeae_runtime": "Anywhere"}
"""Where the commands of each package run."""
OTHERS = "From other packages"


class Commands(click.Group):
    """Finds its subcommands among the installed distributions and prints known errors as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_installed())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _installed().get(cmd_name)
        return None if entry is None else entry.load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by where they run, each with the first sentence of its help, uncut."""
        groups: dict[str, list[tuple[str, str]]] = {heading: [] for heading in (*GROUPS.values(), OTHERS)}
        for name, entry in sorted(_installed().items()):
            command: click.Command = entry.load()
            if not command.hidden:
                heading = GROUPS.get(entry.value.partition(":")[0].partition(".")[0], OTHERS)
                groups[heading].append((name, command.get_short_help_str(limit=sys.maxsize)))
        for heading, rows in groups.items():
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def options(self, ctx: click.Context) -> dict[str, str]:
        """Return how the arguments of the subcommand that runs are given: by an option, or as NAME."""
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        return {} if command is None else {p.name: _spelling(p) for p in command.params if p.name}

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show_warning, self, ctx, warnings.showwarning)
            try:
                return super().invoke(ctx)
            except EdgeaeError as error:
                failure = click.ClickException(error.spelled(self.options(ctx)))
                setattr(failure, "exit_code", error.exit_status)  # noqa: B010  # click types it as a class variable
                raise failure from error
            except OSError as error:
                if error.errno != errno.ENOSPC:  # a reader that went away is click's own business
                    raise
                with suppress(OSError):  # what is still buffered would fail once more when Python exits
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise click.ClickException(f"the output cannot be written ({error.strerror})") from error


def _spelling(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return parameter.human_readable_name
    return max(parameter.opts, key=len)


def _show_warning(
    commands: Commands,
    ctx: click.Context,
    otherwise: Callable[..., None],
    message: Warning | str,
    category: type[Warning],
    *rest: Any,
) -> None:
    if isinstance(message, EdgeaeWarning):
        click.echo(f"Warning: {message.spelled(commands.options(ctx))}", err=True)
    else:
        otherwise(message, category, *rest)


@cache  # it reads a file of every installed distribution
def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="edgeae.commands")}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="edgeae")
def main() -> None:
    """Autoencoders for the edge: embeddings and reconstruction errors on small devices.

    \b
    Examples:
      edgeae info pump.edgeae                  what the bundle holds
      edgeae verify pump.edgeae                does it run right on this machine?
      edgeae score pump.edgeae readings.csv    errors and verdicts, one JSON line a row
    """


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

    from ._bundle import Bundle

    manifest = Bundle(bundle).manifest
    if as_json:
        click.echo(msgspec.json.encode(manifest))
        return
    shape = " x ".join(map(str, manifest.input.shape))
    click.echo(f"{bundle}: input {shape}, embedding {manifest.latent_size}, scaler {manifest.scaler.kind}")
    if manifest.input.features:
        click.echo(f"columns: {', '.join(manifest.input.features)}")
    click.echo(f"error: {manifest.error} in scaled units; threshold by {manifest.reference.rule}")
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

    Exits with 3 where an artifact fails. One whose engine is not installed is skipped.

    \b
    Examples:
      edgeae verify pump.edgeae
      edgeae verify pump.edgeae --json
    """
    import msgspec

    from ._bundle import Bundle
    from ._bundle import verify as run_verify

    opened = Bundle(bundle)
    if not opened.sealed:
        click.echo(
            f"{bundle}: has no {SEAL_NAME}, so a change of its manifest would not be noticed", err=True
        )
    checks = run_verify(opened, threads=threads)
    if as_json:
        click.echo(msgspec.json.encode(checks))
    else:
        for check in checks:
            click.echo(f"{check.status:7}  {check.artifact}  {check.detail}")
    failed = [check.artifact for check in checks if check.status == "failed"]
    if failed:
        raise FidelityError(f"{bundle}: {len(failed)} of {len(checks)} artifacts failed: {', '.join(failed)}")
    runnable = {a.path for a in opened.manifest.artifacts if a.format in ENGINE_FORMATS.values()}
    if all(check.status == "skipped" for check in checks if check.artifact in runnable):
        raise FidelityError(f"{bundle}: no engine is installed here that runs any of its artifacts")
