"""The command ``tune``."""

from pathlib import Path

import click

from ..errors import EngineError
from .terminal import format_table


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the measurements as JSON.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="As they will run.")
@click.option(
    "--rows", type=click.IntRange(min=1), default=1, show_default=True, help="In a call, as they will come."
)
def tune(bundle: Path, as_json: bool, threads: int, rows: int) -> None:
    """Measure which engine and precision are fastest on this device; `auto` takes them from then on.

    Only a pair that gives the bundle's golden outputs here can be chosen; where two are within 10 % of each
    other, the more precise one is. The choice is kept in the user's cache folder.

    \b
    Examples:
      edgeae tune pump.edgeae
      edgeae tune pump.edgeae --rows 1000 --threads 4
      edgeae tune pump.edgeae --json
    """
    import msgspec

    from ..bundle.archive import Bundle
    from ..engines.auto import tune as run_tune

    found = run_tune(Bundle(bundle), threads=threads, rows=rows)
    best = found.best({(pair.engine, pair.precision) for pair in found.pairs})
    if as_json:
        chosen = best and {"engine": best.engine, "precision": best.precision}
        click.echo(msgspec.json.encode({"key": found.key, "pairs": found.pairs, "chosen": chosen}))
    else:
        fastest = min((pair.microseconds for pair in found.pairs if pair.microseconds), default=1.0)
        table = [["engine", "precision", "p50 µs", "ratio", "error moves", ""]]
        for pair in found.pairs:
            time, moves = pair.microseconds, f"{pair.error_median:.3%}"
            cells = [f"{time:,.1f}", f"{time / fastest:.2f}"] if time else ["-", "-"]
            table.append([pair.engine, pair.precision, *cells, moves, pair.refused or ""])
        click.echo(format_table(table))
        if best:
            click.echo(f"\nauto: {best.engine} {best.precision}")
        if caveat := found.about_int8():
            click.echo(caveat)
    if best is None:
        raise EngineError(f"{bundle}: no engine here runs any of its models right; see `edgeae verify`")
