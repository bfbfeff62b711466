"""The command ``edgeae watch``."""

from pathlib import Path
from typing import Any

import click

from ..errors import DataError
from ..names import PRECISIONS

_FILE = click.Path(path_type=Path)


@click.command(context_settings={"show_default": True})
@click.argument("bundle", type=_FILE)
@click.option("--follow", type=_FILE, metavar="FILE", help="Read this file, and what others add to it.")
@click.option("--mqtt", metavar="URL", help="Broker: mqtt://HOST[:PORT], or mqtts:// for TLS.")
@click.option("--topic", help="Take readings from this MQTT topic.")
@click.option("--publish", metavar="TOPIC", help="Send results to this MQTT topic, not to standard output.")
@click.option("--ca-file", type=_FILE, help="Certificates (PEM) to trust, instead of the system's.")
@click.option(
    "--credentials",
    type=_FILE,
    help="File with a line user:password for the broker. [default: EDGEAE_MQTT_USERNAME and _PASSWORD]",
)
@click.option("--home-assistant", is_flag=True, help="Let Home Assistant find score, threshold and alarm.")
@click.option(
    "--state",
    type=_FILE,
    help="Folder for what must outlive a restart. [default: below $XDG_STATE_HOME/edgeae; none from "
    "standard input to standard output]",
)
@click.option("--threshold", type=float, help="Instead of the bundle's, or of the one beside it.")
@click.option("--alarm-needed", default=1, help="Windows above for an alarm…")
@click.option("--alarm-among", type=int, help="…among so many last ones. [default: as --alarm-needed]")
@click.option("--alarm-release", default=1.0, help="The alarm ends below this part of the threshold.")
@click.option("--alarm-refractory", default=0.0, metavar="SECONDS", help="After an alarm, none for so long.")
@click.option("--alarm-warm-up", default=0, help="First windows that raise no alarm.")
@click.option("--drift-memory", default=1000, help="Windows over which drift is judged; 0: never.")
@click.option("--hold", default=0, help="Missing values in a row for which the last known one stands.")
@click.option(
    "--stale-after",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Say so when no full reading came for so long. [default: ten usual steps]",
)
@click.option(
    "--max-reading",
    type=click.IntRange(min=1000),
    metavar="BYTES",
    help="Leave out a longer line or MQTT message. [default: 1,000,000, or 32 a value if that is more]",
)
@click.option("--embedding", is_flag=True, help="Add the embedding to each result.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve Prometheus metrics on this port of 127.0.0.1.",
)
@click.option(
    "--swap-seconds",
    type=click.IntRange(min=1),
    default=60,
    help="A new bundle that is not verified by then is refused.",
)
@click.option(
    "--swap-memory",
    type=click.IntRange(min=1),
    metavar="MB",
    default=256,
    help="A new bundle that takes more to be verified is refused.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "onnxruntime", "litert"]),
    default="auto",
    help="Inference engine.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", *PRECISIONS]),
    default="auto",
    help="Which of the bundle's artifacts to run.",
)
def watch(bundle: Path, **options: Any) -> None:
    """Score readings as they come, and say when something is wrong.

    Readings are JSON lines (a list of numbers, or an object with the bundle's feature names and, if wanted,
    "time" and "seq") or CSV with a header; from standard input, a file or MQTT. Each full window gives a
    JSON line. A new bundle put in place of BUNDLE is verified and taken over. Stops on SIGTERM.

    \b
    Examples:
      edgeae watch pump.edgeae < readings.csv
      edgeae watch pump.edgeae --follow /var/log/pump.csv --alarm-needed 3 --alarm-among 5
      edgeae watch pump.edgeae --mqtt mqtt://localhost --topic sensors/pump --publish edgeae/pump
    """
    _check(options)
    from ..watch.service import run

    run(bundle, options)


def _check(options: dict[str, Any]) -> None:
    """Refuse options that do not go together, before anything is opened."""
    topic, publish = options["topic"], options["publish"]
    if options["follow"] is not None and topic is not None:
        raise DataError("--follow and --topic are two sources of readings; give one")
    if options["home_assistant"] and publish is None:
        raise DataError("--home-assistant needs --publish, the topic where the results are")
    if options["mqtt"] is None:
        for name in ("topic", "publish", "ca_file", "credentials"):
            if options[name] is not None:
                raise DataError(f"--{name.replace('_', '-')} needs --mqtt, the broker")
        return
    if topic is None and publish is None:
        raise DataError("--mqtt needs --topic, --publish or both")
    for name, value in (("topic", topic), ("publish", publish)):
        if value is not None and not (value and {"+", "#", "\0"}.isdisjoint(value) and len(value) < 10_000):
            raise DataError(f"--{name}: expected one topic, without + or #, found {value!r}")
    if topic == publish:
        raise DataError("--topic and --publish are the same; the results would be taken for readings")
