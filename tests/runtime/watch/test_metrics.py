import socket
import urllib.error
import urllib.request

import numpy as np
import pytest
from watching import one_by_one, parse_metrics


def test_metrics_for_prometheus_on_this_machine_only(start, tiny, own, rows) -> None:
    running = start(tiny, "--metrics-port", 0)
    running.feed([*rows[:20], [None, *rows[0, 1:].tolist()]])
    running.process.stdin.write(b"nonsense\n")
    running.process.stdin.flush()
    running.has(20)
    running.says("a reading is left out")
    address = running.err.read_text().split(" on ")[1].split("\n")[0]
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address, timeout=5) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        found = parse_metrics(answer.read().decode())
    errors = one_by_one(own, rows[:20])
    assert found["edgeae_samples_total"] == 21
    assert found["edgeae_windows_total"] == 20
    assert found["edgeae_rejected_total"] == found["edgeae_missing_total"] == 1
    assert found["edgeae_anomalies_total"] == (errors > own.threshold.value).sum()
    assert np.float32(found["edgeae_error"]) == errors[-1]
    assert found["edgeae_threshold"] == own.threshold.value
    others = ("alarm", "spool_results", "reconnects_total", "late_total", "drift")
    assert {f"edgeae_{name}" for name in others} <= found.keys()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{address}/other", timeout=5)


def test_systemd_is_told(start, tiny, tmp_path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        running = start(tiny, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        assert [listener.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        assert running.end() == 0
        last = b""
        listener.settimeout(1)
        while last != b"STOPPING=1":
            last = listener.recv(100)
