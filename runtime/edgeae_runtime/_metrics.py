"""What a watch counts, for Prometheus; served to this machine only."""

import math
import threading
from dataclasses import dataclass, fields
from dataclasses import field as plain_field
from typing import Any

from ._errors import EdgeaeError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def _of(kind: str, help_text: str, default: float = 0) -> Any:
    return plain_field(default=default, metadata={"kind": kind, "help": help_text})


@dataclass
class Metrics:
    """Counters end with ``_total``; the rest are gauges, NaN until there is a value."""

    samples_total: float = _of("counter", "Readings taken.")
    rejected_total: float = _of("counter", "Readings that could not be understood, and were left out.")
    repeated_total: float = _of("counter", "Readings that were delivered again, and not scored again.")
    late_total: float = _of("counter", "Readings dropped because their time was not after the one before.")
    missing_total: float = _of("counter", "Readings with a value missing.")
    interruptions_total: float = _of("counter", "Times that a begun window was given up.")
    windows_total: float = _of("counter", "Windows scored.")
    anomalies_total: float = _of("counter", "Windows above the threshold.")
    alarm: float = _of("gauge", "1 while an alarm is on.")
    drift: float = _of("gauge", "1 while the model does not fit its surroundings.")
    error: float = _of("gauge", "Reconstruction error of the last window.", math.nan)
    threshold: float = _of("gauge", "Above which a window is an anomaly.", math.nan)
    spool_results: float = _of("gauge", "Results that wait to be delivered.")
    dropped_total: float = _of("counter", "Results given up undelivered because the spool was full.")
    connected: float = _of("gauge", "1 while there is a connection to the broker.")
    reconnects_total: float = _of("counter", "Connections to the broker after the first.")
    swaps_total: float = _of("counter", "New bundles taken.")
    refused_total: float = _of("counter", "New bundles or thresholds refused.")

    def text(self) -> str:
        """Return the text format, version 0.0.4."""
        lines = []
        for entry in fields(self):
            name = f"edgeae_{entry.name}"
            value = getattr(self, entry.name)
            shown = {math.inf: "+Inf", -math.inf: "-Inf"}.get(
                value, "NaN" if value != value else f"{value!r}"
            )
            lines += [
                f"# HELP {name} {entry.metadata['help']}",
                f"# TYPE {name} {entry.metadata['kind']}",
                f"{name} {shown}",
            ]
        return "\n".join(lines) + "\n"


def serve(metrics: Metrics, port: int) -> int:
    """Serve ``/metrics`` on 127.0.0.1 from a thread; return the port, which 0 leaves to the system.

    Raises:
        EdgeaeError: the port is taken.
    """
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # else who connects and says nothing keeps a thread

        def do_GET(self) -> None:
            is_known = self.path in ("/", "/metrics")
            content = metrics.text().encode() if is_known else b"see /metrics\n"
            self.send_response(200 if is_known else 404)
            self.send_header("Content-Type", CONTENT_TYPE if is_known else "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

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
