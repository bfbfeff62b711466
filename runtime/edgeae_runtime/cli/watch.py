"""The command ``edgeae watch``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..watch import WatchConfig
from .main import spellings
from .options import chosen, setting_options

if TYPE_CHECKING:
    from logging import LogRecord


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@setting_options(WatchConfig)
def watch(bundle: Path, **settings: Any) -> None:
    """Score readings as they come, and say when something is wrong.

    Readings are JSON lines (a list of numbers, or an object with the bundle's feature names and, if wanted,
    "time" and "seq") or CSV with a header; from standard input, a file or MQTT. Each full window gives a
    JSON line, to standard output, MQTT or a web server. A new bundle put in place of BUNDLE is verified and
    taken over. Stops on SIGTERM.

    \b
    Examples:
      edgeae watch pump.edgeae < readings.csv
      edgeae watch pump.edgeae --follow /var/log/pump.csv --alarm-needed 3 --alarm-among 5
      edgeae watch pump.edgeae --mqtt mqtt://localhost --topic sensors/pump --publish edgeae/pump
      edgeae watch pump.edgeae --follow /var/log/pump.csv --post https://example.com/scores --token-file token
    """
    config = chosen(WatchConfig, None, settings)
    from ..watch import run

    with _log_lines():
        run(bundle, config)


@contextmanager
def _log_lines() -> Iterator[None]:
    """Write what the watch logs to standard error, a line each, with options where it speaks of arguments."""
    import logging

    from ..errors import Message
    from ..watch.service import LOGGER_NAME

    options = spellings(click.get_current_context().command)

    class Formatter(logging.Formatter):
        def format(self, record: "LogRecord") -> str:
            said = record.msg
            text = said.spelled(options) if isinstance(said, Message) else record.getMessage()
            return f"edgeae watch: {text}"

    handler, logger = logging.StreamHandler(), logging.getLogger(LOGGER_NAME)
    handler.setFormatter(Formatter())
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
