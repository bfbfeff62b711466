"""The command ``edgeae watch``."""

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._errors import DataError, EdgeaeError
from ._names import PRECISIONS

if TYPE_CHECKING:
    from ._autoencoder import Autoencoder
    from ._manifest import Threshold
    from ._readings import Position
    from ._watch import Watch

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
    from ._alarm import Alarm, Drift
    from ._intake import Intake
    from ._readings import READING_BYTES, VALUE_BYTES
    from ._sandbox import Sandbox, open_bundle
    from ._service import Log, new_metrics, open_threshold, poll, serve, signature
    from ._spool import Spool
    from ._watch import Watch

    among = options["alarm_among"] or options["alarm_needed"]
    alarm = {name: options[f"alarm_{name}"] for name in ("needed", "release", "refractory", "warm_up")}
    settings = {
        "alarm": Alarm(among=among, **alarm),
        "drift": Drift(memory=options["drift_memory"]) if options["drift_memory"] else None,
        "hold": options["hold"],
    }

    def threshold(autoencoder: "Autoencoder") -> "float | Threshold":
        fixed: float | None = options["threshold"]
        return open_threshold(bundle, autoencoder) if fixed is None else fixed

    choice = options["engine"], options["precision"]

    def load(path: Path) -> "Autoencoder":
        return open_bundle(path, *choice)

    seen = signature(bundle)
    autoencoder = load(bundle)
    metrics, log = new_metrics(), Log(_log)
    wanted = autoencoder.manifest.input
    limit = options["max_reading"] or max(READING_BYTES, VALUE_BYTES * wanted.size // (wanted.window or 1))
    options["max_reading"] = metrics["max_reading_bytes"] = limit
    intake = Intake(
        autoencoder,
        threshold(autoencoder),
        settings,
        embedding=options["embedding"],
        metrics=metrics,
        log=log,
        stale_after=options["stale_after"],
    )
    if options["topic"] is not None:
        intake.silence.remark = f" (the broker drops those above {limit:,} bytes, see --max-reading)"
    folder = options["state"] or _state_folder(bundle, options)
    spool = Spool(folder) if folder else None
    if spool is not None and spool.state is not None:
        # the broker keeps what comes meanwhile, and so does a file; a pipe does not
        is_kept = bool(options["topic"] or options["follow"])
        intake.restore(spool.state, spool.last, keep_window=is_kept)
    running = Watch(intake, spool=spool, write=_write, log=log, metrics=metrics)
    if options["metrics_port"] is not None:
        port = serve(metrics, options["metrics_port"])
        _log(f"metrics on http://127.0.0.1:{port}/metrics")
    ending = threading.Event()
    polling: threading.Thread | None = None
    # else a thread that ends, such as paho's, leaves a watch of nothing
    threading.excepthook = lambda hook: running.post("fail", EdgeaeError(repr(hook.exc_value)))
    try:
        if options["mqtt"] is not None and spool is not None:
            from ._mqtt import Mqtt

            running.link = Mqtt(options, f"edgeae-{spool.client}", bundle.stem, running.post)
            running.publishes = options["publish"] is not None
            running.link.start()
        more = {"load": load, "threshold": threshold, "post": running.post, "stop": ending}
        more["sandbox"] = Sandbox(*choice, options["swap_seconds"], options["swap_memory"])
        polling = threading.Thread(target=poll, args=(bundle, autoencoder, seen), kwargs=more, daemon=True)
        polling.start()
        if options["topic"] is None:
            source = running, options["follow"], intake.position, ending, limit
            threading.Thread(target=_read, args=source, daemon=True).start()
        running.run()
    finally:
        ending.set()
        if polling is not None:
            polling.join(1)  # ends the process that verifies a bundle
        if running.link is not None:
            running.link.stop()
        if spool is not None:
            spool.close()


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


def _state_folder(bundle: Path, options: dict[str, Any]) -> Path | None:
    """Return a folder for this bundle and these sources; None where nothing need be remembered."""
    if not (options["follow"] or options["mqtt"]):
        return None
    import hashlib

    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    what = repr([os.path.abspath(bundle), options["follow"] and os.path.abspath(options["follow"])])
    what += repr([options[name] for name in ("mqtt", "topic", "publish")])
    return Path(home, "edgeae", f"{bundle.stem}-{hashlib.sha256(what.encode()).hexdigest()[:8]}")


def _read(
    running: "Watch",
    path: Path | None,
    position: "Position | None",
    ending: threading.Event,
    limit: int,
) -> None:
    from ._readings import follow, read_lines

    try:
        if path is not None:
            source = follow(path, position, ending, limit)
        else:
            pipe = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
            source = read_lines(pipe, None, None, ending, limit)
        for lines in source:
            running.post("lines", lines)
        running.post("finish")
    except OSError as error:
        running.post("fail", EdgeaeError(f"{path or 'standard input'}: cannot be read ({error.strerror})"))


def _write(lines: bytes) -> None:
    rest = memoryview(lines)
    while rest:  # unbuffered, it may take a part
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()


def _log(text: str) -> None:
    click.echo(f"edgeae watch: {text}", err=True)
