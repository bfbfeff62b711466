import json
import logging
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from watching import COLUMNS, EDGEAE, EXACT, one_by_one

from edgeae_runtime.errors import OutputError
from edgeae_runtime.watch.events import Message
from edgeae_runtime.watch.loop import Watch
from edgeae_runtime.watch.metrics import Metrics
from edgeae_runtime.watch.sinks.stdout import Stdout
from edgeae_runtime.watch.sources.lines import LineSource


def test_results_are_those_of_the_stream(start, tiny, own, rows) -> None:
    running = start(tiny, "--embedding", "--threshold", 0.5)
    running.feed(rows[:50])
    running.has(50)  # a line is answered when it comes, not when the pipe ends
    running.feed(rows[50:60])
    running.process.stdin.close()
    assert running.process.wait(15) == 0
    stream = own.stream(threshold=0.5)
    for line, row in zip(running.out.read_text().splitlines(), rows[:60], strict=True):
        expected = stream.push(row)
        found = json.loads(line)
        assert np.float32(found["error"]) == np.float32(expected.error)
        assert (found["anomaly"], found["alarm"]) == (expected.anomaly, expected.alarm)
        np.testing.assert_array_equal(np.float32(found["embedding"]), expected.embedding)
    assert running.err.read_text() == ""


def test_csv_with_a_header_from_standard_input(start, tiny, own, rows) -> None:
    running = start(tiny)
    lines = [",".join(["timestamp", *reversed(COLUMNS)])]
    for second, row in enumerate(rows[:9]):
        lines.append(f"2026-01-01 00:00:{second:02},{','.join(map(repr, row[::-1].tolist()))}")
    running.process.communicate("\n".join(lines).encode(), timeout=20)
    assert running.process.returncode == 0
    np.testing.assert_array_equal(np.float32(running.errors), one_by_one(own, rows[:9]))
    assert json.loads(running.out.read_text().splitlines()[8])["time"] == "2026-01-01T00:00:08"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(start, tiny, rows, number) -> None:
    running = start(tiny)
    running.feed(rows[:5])
    running.has(5)
    assert running.end(number) == 0
    assert running.err.read_text() == ""


def test_a_first_line_that_is_nothing_is_an_error_in_one_line(start, tiny) -> None:
    running = start(tiny)
    running.process.communicate(b"hello\n", timeout=20)
    assert running.process.returncode == 1
    assert running.err.read_text().startswith("Error: the first line is neither JSON nor the header of a CSV")
    assert running.err.read_text().count("\n") == 1


def test_a_write_that_a_signal_interrupts_is_finished() -> None:
    code = """
import signal, sys
from edgeae_runtime.watch.sinks.stdout import write
signal.signal(signal.SIGALRM, lambda *_: sys.stderr.write("signal\\n"))
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
write(bytes(200_000))
"""
    words = [sys.executable, "-u", "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert [process.stderr.readline() for _ in range(3)] == [b"signal\n"] * 3  # while the pipe is full
        assert len(process.communicate(timeout=20)[0]) == 200_000


def test_a_second_watch_on_the_same_state_is_refused(start, tiny, tmp_path, rows) -> None:
    running = start(tiny, "--state", tmp_path / "state")
    running.feed(rows[:1])
    running.has(1)
    second = subprocess.run(
        [EDGEAE, "watch", tiny, *EXACT, "--state", tmp_path / "state"],
        input="",
        capture_output=True,
        text=True,
    )
    assert second.returncode == 1
    assert "another edgeae watch is using it" in second.stderr
    assert second.stderr.count("\n") == 1


def test_who_waits_to_post_is_let_go_when_the_watch_fails(monkeypatch) -> None:
    """Else the thread of the MQTT client would wait for ever, and its end be waited for."""
    log, source = logging.getLogger("edgeae_runtime.watch"), LineSource(None, 1000)
    running = Watch(None, spool=None, source=source, sink=Stdout(), log=log, metrics=Metrics())
    for _ in range(200):
        running._message_slots.acquire(blocking=False)
    monkeypatch.setattr(running, "_handle", lambda longest: (_ for _ in ()).throw(OutputError("disk full")))
    with pytest.raises(OutputError):
        running.run()
    sender = threading.Thread(target=running.post, args=(Message(b"late"),), daemon=True)
    sender.start()
    sender.join(5)
    assert not sender.is_alive()
