"""A watch, from its settings to its end: what is opened, connected and started."""

import hashlib
import logging
import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Argument, EdgeaeError
from ..settings import SettingsError
from .config import WatchConfig, check_watch
from .events import Failed, Finished, Position, Post
from .intake import Intake
from .log import Line
from .loop import Watch
from .metrics import Metrics, serve
from .readings import VALUE_BYTES
from .sandbox import Sandbox, open_bundle
from .sinks.sink import Sink
from .sinks.stdout import Stdout
from .sources.lines import READING_BYTES, LineSource
from .sources.source import Source
from .spool import Spool
from .swap import open_threshold, poll, signature

if TYPE_CHECKING:
    from ..autoencoder import Autoencoder
    from ..bundle.manifest import Threshold
    from .links.mqtt import Connection

LOGGER_NAME = "edgeae_runtime.watch"
"""Of the logger; that of a watch is below it, under the name of its bundle."""


def run(
    bundle: str | Path,
    config: WatchConfig | None = None,
    *,
    source: Source | None = None,
    sink: Sink | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Score readings as they come, and deliver the results, until it is over.

    It ends after the last reading, when ``stop`` is set, and by SIGTERM or SIGINT where this is the main
    thread. What happens meanwhile is logged by `logging`, below ``edgeae_runtime.watch``.

    Args:
        bundle: path of the bundle; a new one that is put there is verified and taken over.
        config: the settings; None for the defaults, from standard input to standard output.
        source: one of your own, instead of one by the settings.
        sink: one of your own, instead of one by the settings.
        stop: ends the watch when it is set.

    Raises:
        SettingsError: the settings cannot be, or do not go together.
        EdgeaeError: what else ends a watch: a bundle, a broker, a server or a disk.
    """
    path, config = Path(bundle), config or WatchConfig()
    check_watch(config)
    if source is not None and (config.follow or config.topic):
        given = Argument("follow" if config.follow else "topic")
        raise SettingsError("source and ", given, " are two sources of readings; give one")
    if sink is not None and (config.publish or config.post):
        given = Argument("publish" if config.publish else "post")
        raise SettingsError("sink and ", given, " are two places for results; give one")

    def threshold(autoencoder: "Autoencoder") -> "float | Threshold":
        return open_threshold(path, autoencoder) if config.threshold is None else config.threshold

    def load(path: Path) -> "Autoencoder":
        return open_bundle(path, config.engine, config.precision)

    seen = signature(path)
    autoencoder = load(path)
    metrics, log = Metrics(), logging.getLogger(f"{LOGGER_NAME}.{path.stem}")
    wanted = autoencoder.manifest.input
    limit = config.max_reading or max(READING_BYTES, VALUE_BYTES * wanted.size // (wanted.window or 1))
    metrics.max_reading_bytes = limit
    intake = Intake(autoencoder, threshold(autoencoder), config, metrics=metrics, log=log)
    with ExitStack() as closing:
        spool: Spool | None = None
        is_remembered = bool(config.follow or config.mqtt or config.post or source or sink)
        if config.state is not None or is_remembered:
            spool = Spool(config.state or _state_folder(path, config))
            closing.callback(spool.close)
        name = f"edgeae-{spool.client if spool else ''}"
        connection = _connect(config, name, limit)
        source = source or _source(config, connection, limit)
        sink = sink or _sink(config, connection, name, path.stem, limit)
        if config.topic is not None:
            text = f" (the broker drops those above {limit:,} bytes, see "
            intake.silence.remark = Line(text, Argument("max_reading"), ")")
        if spool is not None and spool.state is not None:
            intake.restore(spool.state, spool.last, keep_window=source.keeps)
        watch = Watch(intake, spool=spool, source=source, sink=sink, log=log, metrics=metrics)
        if config.metrics_port is not None:
            server = serve(metrics, config.metrics_port)
            closing.callback(server.server_close)
            closing.callback(server.shutdown)
            log.info(Line(f"metrics on http://127.0.0.1:{server.server_port}/metrics"))
        sink.start(watch.post)
        closing.callback(sink.stop)
        ending = threading.Event()
        sandbox = Sandbox(config.engine, config.precision, config.swap_seconds, config.swap_memory)
        polling = threading.Thread(
            target=poll,
            args=(path, autoencoder, seen),
            kwargs={
                "load": load,
                "threshold": threshold,
                "post": watch.post,
                "stop": ending,
                "sandbox": sandbox,
            },
            name="edgeae-swap",
            daemon=True,
        )
        polling.start()
        closing.callback(polling.join, 1)  # ends the process that verifies a bundle
        closing.callback(ending.set)
        hand_over = source, watch.post, intake.position
        threading.Thread(target=_hand_over, args=hand_over, name="edgeae-source", daemon=True).start()
        closing.callback(source.stop)
        watch.run(stop)


def _hand_over(source: Source, post: Post, since: Position | None) -> None:
    """Run a source, and let its end be known."""
    try:
        source.run(post, since)
        post(Finished())
    except EdgeaeError as error:
        post(Failed(error))
    except Exception as error:  # else a watch would go on to which nothing comes
        post(Failed(EdgeaeError(f"the source has failed: {type(error).__name__}: {error}")))


def _connect(config: WatchConfig, client_id: str, limit: int) -> "Connection | None":
    if config.mqtt is None:
        return None
    from .links.mqtt import Connection

    return Connection(
        config.mqtt, client_id, limit=limit, ca_file=config.ca_file, credentials=config.credentials
    )


def _source(config: WatchConfig, connection: "Connection | None", limit: int) -> Source:
    """Return the source that the settings choose: a case for each kind."""
    if config.topic is not None and connection is not None:
        from .sources.mqtt import MqttSource

        return MqttSource(connection, config.topic)
    return LineSource(config.follow, limit)


def _sink(
    config: WatchConfig, connection: "Connection | None", client_id: str, title: str, limit: int
) -> Sink:
    """Return the sink that the settings choose: a case for each kind."""
    if config.publish is not None and connection is not None:
        from .sinks.mqtt import MqttSink

        return MqttSink(
            connection,
            config.publish,
            home_assistant=title if config.home_assistant else None,
            limit=limit if config.topic is not None else None,
        )
    if config.post is not None:
        from .sinks.http import HttpSink

        return HttpSink(
            config.post,
            client_id,
            token_file=config.token_file,
            ca_file=config.ca_file,
            timeout=config.post_timeout,
        )
    return Stdout()


def _state_folder(bundle: Path, config: WatchConfig) -> Path:
    """Return the folder for this bundle, source and sink; the same as in earlier versions."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    what = repr([os.path.abspath(bundle), config.follow and os.path.abspath(config.follow)])
    what += repr([config.mqtt, config.topic, config.publish])
    if config.post is not None:
        what += repr([config.post])
    return Path(home, "edgeae", f"{bundle.stem}-{hashlib.sha256(what.encode()).hexdigest()[:8]}")
