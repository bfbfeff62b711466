"""The metrics of a watch, as Prometheus takes them."""

import math
import threading

from ..errors import EdgeaeError

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
