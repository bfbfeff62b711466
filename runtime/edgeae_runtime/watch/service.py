"""A watch, from its options to its end: what is opened, connected and started."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import EdgeaeError
from ..streams.alarm import Alarm
from ..streams.drift import Drift
from .intake import Intake
from .log import Log
from .loop import Watch
from .metrics import new_metrics, serve
from .readings import VALUE_BYTES
from .sandbox import Sandbox, open_bundle
from .sinks.stdout import write
from .sources.lines import READING_BYTES, read
from .spool import Spool
from .swap import open_threshold, poll, signature

if TYPE_CHECKING:
    from ..autoencoder import Autoencoder
    from ..bundle.manifest import Threshold


def run(bundle: Path, options: dict[str, Any]) -> None:
    """Watch until it is over; ``options`` are those of `edgeae watch`.

    Raises:
        EdgeaeError: what ends a watch: a bundle, an option, a broker or a disk.
    """
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
    running = Watch(intake, spool=spool, write=write, log=log, metrics=metrics)
    if options["metrics_port"] is not None:
        port = serve(metrics, options["metrics_port"])
        _log(f"metrics on http://127.0.0.1:{port}/metrics")
    ending = threading.Event()
    polling: threading.Thread | None = None
    # else a thread that ends, such as paho's, leaves a watch of nothing
    threading.excepthook = lambda hook: running.post("fail", EdgeaeError(repr(hook.exc_value)))
    try:
        if options["mqtt"] is not None and spool is not None:
            from .mqtt import Mqtt

            running.link = Mqtt(options, f"edgeae-{spool.client}", bundle.stem, running.post)
            running.publishes = options["publish"] is not None
            running.link.start()
        more = {"load": load, "threshold": threshold, "post": running.post, "stop": ending}
        more["sandbox"] = Sandbox(*choice, options["swap_seconds"], options["swap_memory"])
        polling = threading.Thread(target=poll, args=(bundle, autoencoder, seen), kwargs=more, daemon=True)
        polling.start()
        if options["topic"] is None:
            source = running.post, options["follow"], intake.position, ending, limit
            threading.Thread(target=read, args=source, daemon=True).start()
        running.run()
    finally:
        ending.set()
        if polling is not None:
            polling.join(1)  # ends the process that verifies a bundle
        if running.link is not None:
            running.link.stop()
        if spool is not None:
            spool.close()


def _state_folder(bundle: Path, options: dict[str, Any]) -> Path | None:
    """Return a folder for this bundle and these sources; None where nothing need be remembered."""
    if not (options["follow"] or options["mqtt"]):
        return None
    import hashlib

    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    what = repr([os.path.abspath(bundle), options["follow"] and os.path.abspath(options["follow"])])
    what += repr([options[name] for name in ("mqtt", "topic", "publish")])
    return Path(home, "edgeae", f"{bundle.stem}-{hashlib.sha256(what.encode()).hexdigest()[:8]}")


def _log(text: str) -> None:
    click.echo(f"edgeae watch: {text}", err=True)
