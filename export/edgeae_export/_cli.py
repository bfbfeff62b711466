"""The command ``edgeae export``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from edgeae_runtime._files import check_target
from edgeae_runtime._manifest import FORMATS, Artifact, Format, Manifest, Precision
from edgeae_runtime._results import format_table

from ._quiet import import_tensorflow

STATIC_PRECISIONS: tuple[Precision, ...] = ("float32", "int8")


class _Choices(click.ParamType[tuple[str, ...]]):
    """A comma-separated list of known words."""

    name = "list"

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        words = tuple(dict.fromkeys(word.strip() for word in str(value).split(",")))
        unknown = [word for word in words if word not in self.known]
        if unknown:
            self.fail(f"{', '.join(map(repr, unknown))} is not one of {', '.join(self.known)}", param, ctx)
        return words


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bundle, NAME.edgeae.")
@click.option(
    "--formats", type=_Choices(FORMATS), default=",".join(FORMATS), show_default=True, help="File formats."
)
@click.option(
    "--precisions",
    type=_Choices(STATIC_PRECISIONS),
    default=",".join(STATIC_PRECISIONS),
    show_default=True,
    help="Number formats of the network's layers.",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is already there.")
def export(
    run: Path, out: Path, formats: tuple[Format, ...], precisions: tuple[Precision, ...], force: bool
) -> None:
    """Export the trained autoencoder in the folder RUN to a bundle for the device.

    Every file is compared with the float Keras model on held-out rows. Where one differs by more than
    the limits allow, nothing is written and the exit status is 3.

    \b
    Examples:
      edgeae export pump.run --out pump.edgeae
      edgeae export pump.run --out pump.edgeae --formats onnx --precisions float32
    """
    check_target(out, force=force)
    import_tensorflow()
    from ._export import export as run_export
    from ._source import load_run

    with _bar(3 * len(formats) * len(precisions)) as step:
        exported = run_export(
            load_run(run), out, formats=formats, precisions=precisions, force=force, progress=step
        )
    click.echo(format_table(artifact_table(exported)))
    click.echo(f"{out}: {len(exported.artifacts)} artifacts, all faithful")


@contextmanager
def _bar(steps: int) -> Iterator[Callable[[str], None]]:
    """Show a progress bar with the artifact that is being made; silent where there is no terminal."""

    def show(artifact: str | None) -> str:
        return artifact or ""

    with click.progressbar(
        length=steps, label="Exporting", item_show_func=show, hidden=not sys.stderr.isatty(), file=sys.stderr
    ) as bar:
        yield lambda artifact: bar.update(1, artifact)


def artifact_table(manifest: Manifest) -> list[list[str]]:
    """Return a heading and one row of text an artifact: its size and its fidelity."""
    heading = [
        "artifact",
        "bytes",
        "of float32",
        "error moves",
        "p99",
        "rank corr.",
        "cosine",
        "false alarms",
    ]
    return [heading, *(_row(artifact, manifest) for artifact in manifest.artifacts)]


def _row(artifact: Artifact, manifest: Manifest) -> list[str]:
    fidelity, twin = artifact.fidelity, manifest.find(artifact.role, "float32", artifact.format)
    return [
        artifact.path,
        f"{artifact.bytes:,}",
        "" if twin is None else f"{artifact.bytes / twin.bytes:.3f}",
        f"{fidelity.error_median:.4%}",
        f"{fidelity.error_p99:.3%}",
        f"{fidelity.rank_correlation:.6f}",
        "" if fidelity.embedding_cosine is None else f"{fidelity.embedding_cosine:.6f}",
        f"{fidelity.false_alarms:.2%}",
    ]
