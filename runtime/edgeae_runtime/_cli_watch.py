"""The command ``edgeae watch``."""

import hashlib
import os
import secrets
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from ._alarm import Alarm
from ._drift import Drift
from ._errors import DataError, EdgeaeError
from ._files import new_file
from ._manifest import PRECISIONS

if TYPE_CHECKING:
    from ._autoencoder import Autoencoder
    from ._mqtt import Broker
    from ._sources import Position
    from ._watch import Watch

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("bundle", type=_FILE)
@click.option("--follow", type=_FILE, metavar="FILE", help="Read this file, and what others add to it.")
@click.option("--mqtt", metavar="URL", help="Broker: mqtt://HOST[:PORT], or mqtts:// for TLS.")
@click.option("--topic", help="Take readings from this MQTT topic.")
@click.option("--publish", metavar="TOPIC", help="Send results to this MQTT topic, not to standard output.")
@click.option("--ca-file", type=_FILE, help="Certificates (PEM) to trust, instead of the system's.")
@click.option(
    "--credentials",
    type=_FILE,
    help="File with a line user:password for the broker; else EDGEAE_MQTT_USERNAME and "
    "EDGEAE_MQTT_PASSWORD are used.",
)
@click.option("--client-id", help="Name of the MQTT session. [default: made once, and kept in --state]")
@click.option(
    "--state",
    type=_FILE,
    help="Folder for what must outlive a restart. [default: below $XDG_STATE_HOME/edgeae; none from "
    "standard input to standard output]",
)
@click.option(
    "--spool-limit",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="MB",
    help="Keep at most so much of undelivered results; the oldest go first.",
)
@click.option("--threshold", type=float, help="Instead of the bundle's, or of the one beside it.")
@click.option("--alarm-needed", type=int, default=1, show_default=True, help="Windows above for an alarm…")
@click.option("--alarm-among", type=int, help="…among so many last ones. [default: as --alarm-needed]")
@click.option(
    "--alarm-release",
    type=float,
    default=1.0,
    show_default=True,
    help="The alarm ends below this part of the threshold.",
)
@click.option(
    "--alarm-refractory",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="After an alarm's end, none for so long.",
)
@click.option(
    "--alarm-warm-up", type=int, default=0, show_default=True, help="First windows that raise no alarm."
)
@click.option(
    "--drift-memory",
    type=int,
    default=1000,
    show_default=True,
    help="Windows over which drift is judged; 0: never.",
)
@click.option(
    "--hold",
    type=int,
    default=0,
    show_default=True,
    help="Missing values in a row for which the last known one stands.",
)
@click.option("--step", type=float, metavar="SECONDS", help="Between two readings. [default: their median]")
@click.option("--embedding", is_flag=True, help="Add the embedding to each result.")
@click.option("--home-assistant", is_flag=True, help="Let Home Assistant find score, threshold and alarm.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve Prometheus metrics on this port of 127.0.0.1.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "onnxruntime", "litert"]),
    default="auto",
    show_default=True,
    help="Inference engine.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", *PRECISIONS]),
    default="auto",
    show_default=True,
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
    broker = _check(options)
    from ._intake import Intake, Log
    from ._metrics import Metrics, serve
    from ._spool import Spool
    from ._swap import Poll, open_threshold
    from ._watch import Watch

    among = options["alarm_among"] or options["alarm_needed"]
    settings = {
        "alarm": Alarm(
            needed=options["alarm_needed"],
            among=among,
            release=options["alarm_release"],
            refractory=options["alarm_refractory"],
            warm_up=options["alarm_warm_up"],
        ),
        "drift": Drift(memory=options["drift_memory"]) if options["drift_memory"] else None,
        "hold": options["hold"],
        "step": options["step"],
    }
    fixed = options["threshold"]

    def load(path: Path) -> "Autoencoder":
        return _load(path, options["engine"], options["precision"])

    autoencoder = load(bundle)
    folder = options["state"] or _state_folder(bundle, options)
    spool = Spool(folder, limit=options["spool_limit"] << 20) if folder else None
    metrics = Metrics()
    log = Log(_log)
    intake = Intake(
        autoencoder,
        threshold=open_threshold(bundle, autoencoder) if fixed is None else fixed,
        settings=settings,
        embedding=options["embedding"],
        metrics=metrics,
        log=log,
    )
    if spool is not None and spool.damaged:
        log(f"{folder}: {spool.damaged} damaged records were left out")
    if spool is not None and spool.state is not None:
        # the broker keeps what comes meanwhile, and so does a file; a pipe does not
        is_kept = bool(options["topic"] or options["follow"])
        intake.restore(spool.state, spool.last, keep_window=is_kept)
    running = Watch(intake, spool=spool, write=_write, log=log, metrics=metrics)
    poll = Poll(
        bundle,
        autoencoder,
        load=load,
        accept=lambda ae, threshold: running.swap(ae, threshold if fixed is None else fixed),
        refuse=running.refuse,
    )
    if options["metrics_port"] is not None:
        port = serve(metrics, options["metrics_port"])
        _log(f"metrics on http://127.0.0.1:{port}/metrics")
    if broker is not None:
        assert folder is not None
        _connect(running, broker, folder, bundle, options)
    ending = threading.Event()
    try:
        poll.start()
        if running.link is not None:
            running.link.start()
        if options["topic"] is None:
            _start_source(running, options["follow"], intake.position, ending)
        running.run()
    finally:
        ending.set()
        poll.stop()
        if running.link is not None:
            running.link.stop()
        if spool is not None:
            spool.close()


def _check(options: dict[str, Any]) -> "Broker | None":
    """Refuse options that do not go together, before anything is opened; return the broker."""
    if options["follow"] is not None and options["topic"] is not None:
        raise DataError("--follow and --topic are two sources of readings; give one")
    if options["home_assistant"] and options["publish"] is None:
        raise DataError("--home-assistant needs --publish, the topic where the results are")
    if options["mqtt"] is None:
        for name in ("topic", "publish", "ca_file", "credentials", "client_id"):
            if options[name] is not None:
                raise DataError(f"--{name.replace('_', '-')} needs --mqtt, the broker")
        return None
    if options["topic"] is None and options["publish"] is None:
        raise DataError("--mqtt needs --topic, --publish or both")
    from ._mqtt import check_topic, parse_broker

    for name in ("topic", "publish"):
        if options[name] is not None:
            check_topic(f"--{name}", options[name])
    if options["topic"] is not None and options["topic"] == options["publish"]:
        raise DataError("--topic and --publish are the same; the results would be taken for readings")
    return parse_broker(options["mqtt"], options["ca_file"], options["credentials"])


def _load(path: Path, engine: Any, precision: Any) -> "Autoencoder":
    """Open a bundle and run it once: what it is made of is in memory then, whatever becomes of the files."""
    import numpy as np

    from ._autoencoder import load

    autoencoder = load(path, engine=engine, precision=precision)
    with suppress(DataError):  # zeros may be far from the training data
        autoencoder.detect(np.zeros(autoencoder.manifest.input.shape, np.float32))
    return autoencoder


def _state_folder(bundle: Path, options: dict[str, Any]) -> Path | None:
    """Return a folder for this bundle and these sources; None where nothing need be remembered."""
    if not (options["follow"] or options["mqtt"]):
        return None
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    source = options["follow"].absolute() if options["follow"] else options["topic"]
    what = repr((str(bundle.absolute()), str(source), options["mqtt"], options["publish"]))
    return Path(home, "edgeae", f"{bundle.stem}-{hashlib.sha256(what.encode()).hexdigest()[:8]}")


def _connect(running: "Watch", broker: "Broker", folder: Path, bundle: Path, options: dict[str, Any]) -> None:
    from ._home_assistant import discovery
    from ._mqtt import Events, Mqtt

    client_id = options["client_id"] or _client_id(folder)
    publish = options["publish"]
    status = f"{publish}/status" if publish else None
    retained = {}
    if options["home_assistant"]:
        topic, config = discovery(client_id, bundle.stem, publish, f"{publish}/status", __version__)
        retained[topic] = config
    running.publish = publish
    running.link = Mqtt(
        broker,
        client_id=client_id,
        topic=options["topic"],
        status_topic=status,
        retained=retained,
        events=Events(
            running.link_up, running.link_down, running.fail, running.deliver_message, running.landed
        ),
    )


def _client_id(folder: Path) -> str:
    """Return the name of this watch's session: made at random once, since host names are often alike."""
    path = folder / "client-id"
    with suppress(FileNotFoundError):
        return path.read_text().strip()
    name = f"edgeae-{secrets.token_hex(6)}"
    with new_file(path) as file:
        file.write_text(f"{name}\n")
    return name


def _start_source(
    running: "Watch", path: Path | None, position: "Position | None", ending: threading.Event
) -> None:
    from ._sources import follow, read_lines

    def read() -> None:
        if path is not None:
            follow(path, position, running.deliver, ending)
        else:
            read_lines(0, running.deliver)
            running.finish()

    def guarded() -> None:
        try:
            read()
        except OSError as error:
            running.fail(EdgeaeError(f"{path or 'standard input'}: cannot be read ({error.strerror})"))

    threading.Thread(target=guarded, name="readings", daemon=True).start()


def _write(lines: bytes) -> None:
    if lines:
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()


def _log(text: str) -> None:
    click.echo(f"edgeae watch: {text}", err=True)
