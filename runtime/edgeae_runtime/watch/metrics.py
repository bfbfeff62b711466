"""The metrics of a watch, as Prometheus takes them."""

import math
import threading
from typing import TYPE_CHECKING

import msgspec

from ..errors import Argument, EdgeaeError

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

STOP_SECONDS = 0.1
"""Seconds between two looks at whether to stop, and so the longest that an end takes."""


class Metrics(msgspec.Struct):
    """Counters, whose names end with ``_total``, and gauges: NaN where there is no value yet."""

    samples_total: int = 0
    """Readings taken."""
    windows_total: int = 0
    anomalies_total: int = 0
    """Windows above the threshold."""
    rejected_total: int = 0
    """Readings that could not be understood."""
    repeated_total: int = 0
    """Readings that were delivered again, and not scored again."""
    late_total: int = 0
    """Readings dropped because their time was not after the one before."""
    doubted_total: int = 0
    """Readings taken without their time, which was not believed."""
    missing_total: int = 0
    """Readings with a value missing."""
    interruptions_total: int = 0
    """Times that a begun window was given up."""
    delivered_total: int = 0
    """Results that have arrived."""
    dropped_total: int = 0
    """Results given up undelivered: too many waited, or they were refused."""
    retried_total: int = 0
    """Failed attempts to deliver that were followed by another one."""
    reconnects_total: int = 0
    """Connections to the broker after the first."""
    swaps_total: int = 0
    """New bundles taken."""
    refused_total: int = 0
    """New bundles and thresholds refused."""
    alarm: int = 0
    drift: int = 0
    error: float = math.nan
    """Of the last window."""
    threshold: float = math.nan
    spool_results: int = 0
    """Results that wait to be delivered."""
    connected: int = 0
    """Whether the connection to the broker is there."""
    stale: int = 0
    full_reading_age_seconds: float = math.nan
    """Seconds since the last full reading."""
    max_reading_bytes: int = 0

    def exposition(self) -> str:
        """Return all in Prometheus' text format 0.0.4."""
        lines = []
        for name, value in msgspec.structs.asdict(self).items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines.append(f"# TYPE edgeae_{name} {kind}\nedgeae_{name} {value}\n")
        return "".join(lines)


def serve(metrics: Metrics, port: int) -> "ThreadingHTTPServer":
    """Serve ``/metrics`` on 127.0.0.1 from a thread, until the server that is returned is shut down.

    Args:
        metrics: read anew for each request.
        port: 0 takes one that is free.

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
            self.wfile.write(metrics.exposition().encode())

        def log_message(self, *arguments: object) -> None:
            pass

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise EdgeaeError(
            Argument("metrics_port", port),
            f": cannot be opened on 127.0.0.1 ({error.strerror}); choose another",
        ) from error
    threading.Thread(
        target=server.serve_forever, args=(STOP_SECONDS,), name="edgeae-metrics", daemon=True
    ).start()
    return server
