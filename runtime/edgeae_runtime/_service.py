"""What makes a watch a good service: a log, metrics, word to systemd, bundles swapped as it runs."""

import math
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ._alarm import read_threshold, threshold_path
from ._engines import ENGINE_FORMATS
from ._errors import BundleError, EdgeaeError
from ._manifest import Threshold, artifact_name, manifest_digest
from ._sandbox import Sandbox

if TYPE_CHECKING:
    from ._autoencoder import Autoencoder

POLL_SECONDS = 1.0
QUIET_SECONDS = 10.0
LINE_LENGTH = 500
"""Most characters of a logged line, of which a reading may bring any number."""
Signature = tuple[list[tuple[object, ...]], ...]
COUNTERS = (
    "samples windows anomalies rejected repeated late doubted missing interruptions dropped reconnects swaps "
    "refused"
)
GAUGES = (
    "alarm drift error threshold spool_results connected stale full_reading_age_seconds max_reading_bytes"
)


def new_metrics() -> dict[str, float]:
    """Return all at 0, or NaN where there is no value yet."""
    names = [*(f"{name}_total" for name in COUNTERS.split()), *GAUGES.split()]
    return {
        **dict.fromkeys(names, 0),
        **dict.fromkeys(("error", "threshold", "full_reading_age_seconds"), math.nan),
    }


def serve(metrics: dict[str, float], port: int) -> int:
    """Serve ``/metrics`` on 127.0.0.1 (Prometheus' text format 0.0.4); return the port, which 0 leaves open.

    Raises:
        EdgeaeError: the port is taken.
    """
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # else who connects and sends nothing keeps a thread

        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(404, "see /metrics")
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            for name, value in metrics.items():
                kind = "counter" if name.endswith("_total") else "gauge"
                self.wfile.write(f"# TYPE edgeae_{name} {kind}\nedgeae_{name} {value}\n".encode())

        def log_message(self, *arguments: object) -> None:
            pass

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise EdgeaeError(
            f"--metrics-port {port}: cannot be opened on 127.0.0.1 ({error.strerror}); choose another"
        ) from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server.server_port


class Log:
    """Logs events, a line each, whatever is in the text."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """Write lines to where ``write`` does."""
        self._write = write
        self._held: dict[str, tuple[float, int, str]] = {}

    def write(self, text: str) -> None:
        """Write a line at once."""
        short = text if len(text) <= LINE_LENGTH else f"{text[:LINE_LENGTH]}…"
        self._write("".join(char if char.isprintable() else " " for char in short))

    def now_and_then(self, text: str, kind: str = "") -> None:
        """Log something that may come with every reading, but not each time."""
        last, count, _ = self._held.get(kind, (-math.inf, 0, ""))
        self._held[kind] = last, count + 1, text[: LINE_LENGTH + 1]
        self.catch_up(kind)

    def catch_up(self, *kinds: str, now: bool = False) -> None:
        """Log what came meanwhile, if it is time or ``now``: of these kinds or of all."""
        for kind in kinds or list(self._held):
            last, count, text = self._held[kind]
            if count and (now or time.monotonic() - last >= QUIET_SECONDS):
                self.write(f"{text} ({count} such since the last line)" if count > 1 else text)
                self._held[kind] = time.monotonic(), 0, ""


class Notifier:
    """Notifies systemd of our state, by sd_notify(3); silent where nobody listens."""

    def __init__(self) -> None:
        """Read ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``."""
        name = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        own = str(os.getpid())
        microseconds = os.environ.get("WATCHDOG_USEC", "0")
        # half of the time that is allowed, as sd_watchdog_enabled(3) advises
        self.interval = int(microseconds) / 2e6 if os.environ.get("WATCHDOG_PID", own) == own else 0
        self._last = time.monotonic()

    def notify(self, what: str) -> None:
        """Send a state such as ``READY=1``."""
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(what.encode(), self._address)

    def alive(self) -> None:
        """Reset the watchdog, if there is one and it is time."""
        if self.interval and time.monotonic() - self._last >= self.interval / 2:
            self._last = time.monotonic()
            self.notify("WATCHDOG=1")


def open_threshold(path: Path, autoencoder: "Autoencoder") -> Threshold:
    """Return the recalibrated threshold that lies beside the bundle, else the bundle's own.

    Raises:
        BundleError: the file is damaged.
    """
    artifact = artifact_name("scorer", autoencoder.precision, ENGINE_FORMATS[autoencoder.engine])
    return read_threshold(path, artifact, autoencoder.manifest) or autoencoder.threshold


def poll(
    path: Path,
    current: "Autoencoder",
    seen: Signature,
    *,
    load: Callable[[Path], "Autoencoder"],
    threshold: Callable[["Autoencoder"], float | Threshold],
    post: Callable[..., object],
    stop: threading.Event,
    sandbox: Sandbox = Sandbox(),  # noqa: B008  # a named tuple
) -> None:
    """Look each second whether bundle or threshold has changed; open and verify what is new.

    A folder that is copied over file by file is looked at when nothing about it has changed for a second.

    ``seen`` is the `signature` before ``current`` was opened. ``load`` opens a bundle and runs it once, so
    that nothing of it is left to be read later, but only once ``sandbox`` has found it good. ``post`` gets
    ``"swap"``, what is to run from now on and its threshold, or ``"refuse"`` and why not.
    """
    before = seen
    while not stop.wait(POLL_SECONDS):
        now = signature(path)
        if now == before != seen and now[0]:
            try:
                if now[0] != seen[0]:
                    digest = sandbox.verify(path, stop)
                    if digest is None:
                        return
                    current = _open(path, digest, current, load)
                post("swap", current, threshold(current))
            except EdgeaeError as error:
                post("refuse", str(error))
            except Exception as error:  # whatever a broken file does, what runs goes on
                post("refuse", f"{path}: {type(error).__name__}: {error}")
            seen = now
        before = now


def _open(
    path: Path, digest: str, current: "Autoencoder", load: Callable[[Path], "Autoencoder"]
) -> "Autoencoder":
    """Open the verified bundle whose manifest has this digest; nothing is made of the running one."""
    fresh = current if digest == manifest_digest(current.manifest) else load(path)
    if manifest_digest(fresh.manifest) != digest:
        raise BundleError(f"{path}: changed while it was verified")
    old, new = current.manifest.input, fresh.manifest.input
    for name in ("shape", "features", "window", "stride"):
        if getattr(old, name) != getattr(new, name):
            raise BundleError(
                f"{path}: its {name} is {getattr(new, name)}, that of the running one "
                f"{getattr(old, name)}; restart to change what goes in"
            )
    return fresh


def signature(path: Path) -> Signature:
    """Return what changes when a bundle or its threshold is written or replaced; each empty where none is."""
    return _signature(path), _signature(threshold_path(path))


def _signature(path: Path) -> list[tuple[object, ...]]:
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found = [(file.name, file.stat()) for file in files]
    except OSError:
        return []
    return [(name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in found]
