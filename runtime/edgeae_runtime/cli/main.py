"""The command ``edgeae``: its root.

All subcommands are entry points of the group ``edgeae.commands``. Their modules import at the top only what
is cheap.
"""

import errno
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from .. import __version__
from ..errors import EdgeaeError, EdgeaeWarning

GROUPS = {"edgeae": "On a workstation", "edgeae_export": "On a workstation", "edgeae_runtime": "Anywhere"}
"""Where the commands of each package run."""
OTHERS = "From other packages"


class Commands(click.Group):
    """Finds its subcommands among the installed distributions and prints known errors as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the installed commands."""
        return sorted(_installed())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None where there is none of that name."""
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
        return {} if command is None else spellings(command)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors that edgeae raises on purpose and warnings become one line."""
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


def spellings(command: click.Command) -> dict[str, str]:
    """Return how the arguments of a command are given: by an option, or as NAME."""
    return {parameter.name: _spelling(parameter) for parameter in command.params if parameter.name}


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
