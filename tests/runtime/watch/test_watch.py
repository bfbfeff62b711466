import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema

import edgeae_runtime
from edgeae_runtime.bundle.manifest import Input
from edgeae_runtime.errors import DataError, OutputError
from edgeae_runtime.watch.intake import Intake
from edgeae_runtime.watch.log import Log
from edgeae_runtime.watch.loop import Watch
from edgeae_runtime.watch.metrics import new_metrics
from edgeae_runtime.watch.readings import Parser, Reading
from edgeae_runtime.watch.sources.lines import Lines, Position, follow, read_lines
from edgeae_runtime.watch.swap import poll, signature

EDGEAE = Path(sys.executable).with_name("edgeae")
EXACT = ("--engine", "onnxruntime", "--precision", "float32")
COLUMNS = ["temperature", "pressure", "vibration", "voltage", "current", "speed"]


def wait_for(is_so: Callable[[], bool], what: str, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)


class Running:
    """The installed command, fed through a pipe; its output goes to files."""

    def __init__(self, folder: Path, *words: object, **env: str) -> None:
        self.out, self.err = folder / "out.jsonl", folder / "err.log"
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                [EDGEAE, "watch", *map(str, words), *EXACT],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env={**os.environ, **env},
            )

    def feed(self, rows: Any) -> None:
        assert self.process.stdin is not None
        for row in rows:
            self.process.stdin.write(json.dumps(np.asarray(row).tolist()).encode() + b"\n")
        self.process.stdin.flush()

    def has(self, count: int) -> None:
        wait_for(lambda: self.out.read_bytes().count(b"\n") >= count, f"{count} results")

    def says(self, text: str, times: int = 1) -> None:
        wait_for(lambda: self.err.read_text().count(text) >= times, f"{text!r}")

    @property
    def errors(self) -> list[float]:
        results = [json.loads(line) for line in self.out.read_text().splitlines()]
        assert [result["sequence"] for result in results] == list(range(1, len(results) + 1))
        return [result["error"] for result in results]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def call(*words: object, **env: str) -> Running:
        started.append(Running(tmp_path, *words, **env))
        return started[-1]

    yield call
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        assert running.process.stdin is not None
        running.process.stdin.close()


@pytest.fixture(scope="module")
def own(tiny: Path) -> edgeae_runtime.Autoencoder:
    return edgeae_runtime.load(tiny, engine="onnxruntime", precision="float32")


def one_by_one(ae: edgeae_runtime.Autoencoder, samples: np.ndarray) -> np.ndarray:
    """The errors as a stream computes them: a batch may differ in the last bit."""
    return np.array([ae.score(sample) for sample in samples], np.float32)


# --- readings ------------------------------------------------------------------------------------

ONE = Input(shape=(3, 2), features=("a", "b"), window=3, stride=1)
NAMELESS = Input(shape=(3, 2), window=3, stride=1)
NOON = datetime(2026, 3, 4, 12)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"[1, 2.5]", Reading([1, 2.5], None, None)),
        (b"7", Reading([7], None, None)),
        (b'{"b": 2, "a": 1, "x": 0}', Reading([1, 2], None, None)),
        (b'{"a": 1}', Reading([1, None], None, None)),
        (b'{"a": NaN, "b": 2}', Reading([pytest.approx(np.nan, nan_ok=True), 2], None, None)),
        (b'{"a": 1, "b": 2, "time": "2026-03-04T13:00+01:00", "seq": 5}', Reading([1, 2], NOON, 5)),
        (b'{"values": [1, 2], "timestamp": 1772625600}', Reading([1, 2], NOON, None)),
        (b'{"values": [1, 2], "Time": 1772625600000}', Reading([1, 2], NOON, None)),
        (b'{"a": 1, "b": 2, "values": "raw"}', Reading([1, 2], None, None)),
        (b'{"a": 1, "values": [8, 9]}', Reading([1, None], None, None)),
        (b'{"a": 1, "b": 2, "seq": null, "time": null}', Reading([1, 2], None, None)),
        (b'{"date": "Thu", "a": 1, "b": 2, "time": 1772625600}', Reading([1, 2], NOON, None)),
        (b'{"a": 1, "b": 2, "time": 1772625600, "timestamp": null}', Reading([1, 2], NOON, None)),
        (b'\xef\xbb\xbf{"a": 1, "b": 2}', Reading([1, 2], None, None)),
    ],
)
def test_json_readings(line, expected) -> None:
    assert Parser(ONE).parse(line) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"hello", "is not JSON"),
        (b'"text"', "is neither a list of numbers nor an object but 'text'"),
        (b"true", "is neither a list"),
        (b'{"x": 1}', "has none of a, b, only x"),
        (b'{"a": 1, "b": 2, "time": "02/03/2026"}', "'02/03/2026' is not a time"),
        (b'{"a": 1, "b": 2, "time": 1e300}', "is not a time"),
        (b'{"a": 1, "b": 2, "seq": 1.5}', "seq is '1.5', not a whole number"),
        (
            b'{"a": 1, "b": 2, "seq": 99999999999999999999}',
            "seq is '99999999999999999999', not a whole number",
        ),
    ],
)
def test_what_is_no_reading(line, message) -> None:
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        Parser(ONE).parse(line)


def test_a_byte_order_mark_before_json_is_no_header() -> None:
    parser = Parser(ONE)
    parser.begin(b'\xef\xbb\xbf{"a": 1, "b": 2}\n')
    assert not parser.header


def test_who_waits_to_post_is_let_go_when_the_watch_fails(monkeypatch) -> None:
    """Else the thread of the MQTT client would wait for ever, and its end be waited for."""
    running = Watch(
        None, spool=None, write=lambda line: None, log=Log(lambda text: None), metrics=new_metrics()
    )
    for _ in range(200):
        running._message_slots.acquire(blocking=False)
    monkeypatch.setattr(running, "_handle", lambda: (_ for _ in ()).throw(OutputError("disk full")))
    with pytest.raises(OutputError):
        running.run()
    sender = threading.Thread(target=running.post, args=("message", b"late"), daemon=True)
    sender.start()
    sender.join(5)
    assert not sender.is_alive()


def test_csv_columns_may_come_in_any_order() -> None:
    parser = Parser(ONE)
    parser.begin(b"time,b,note,a,seq\n")
    assert parser.header == b"time,b,note,a,seq\n"
    assert parser.parse(b"2026-03-04 12:00,2,x,1,9\r\n") == Reading([1, 2], NOON, 9)
    assert parser.parse(b'2026-03-04 12:00,,"x,y",1,9') == Reading([1, None], NOON, 9)
    assert parser.parse(b"1772625600.0,2,x,1,9,,") == Reading([1, 2], NOON, 9)
    assert parser.parse(b"1772625600000,2,x,1,9").time == NOON
    assert parser.parse(b"20260304,2,x,1,9").time == datetime(2026, 3, 4)
    bad = [
        (b"1,2", "2 cells, the header has 5"),
        (b",2,5,,3,1", "6 cells, the header has 5"),
        (b",x,,1,9", "'x' is not a number"),
        (b",1,\r,1,9", "is not CSV"),
        (b",1," + b"x" * 200_000 + b",1,9", "is not CSV"),
    ]
    for line, message in bad:
        with pytest.raises(DataError, match=message):
            parser.parse(line)
    parser.begin(b"[1, 2]")
    assert parser.header == b""
    Parser(NAMELESS).begin(b"date,left,right")
    with pytest.raises(DataError, match="neither JSON nor the header of a CSV with b; found 'a,c'"):
        Parser(ONE).begin(b"a,c")
    with pytest.raises(DataError, match="with 2 columns of numbers"):
        Parser(NAMELESS).begin(b"date,left")


def test_a_file_that_begins_without_a_header_is_as_that_before() -> None:
    parser = Parser(ONE)
    parser.begin(b"a,time,b")
    for line in (b"1,,2", b",2026-03-04 12:00,", b"5", b"6-03-04 12:00,2"):  # the last two cut in half
        parser.begin(line)
        assert parser.header == b"a,time,b"
    with pytest.raises(DataError, match="the header of a CSV with b;"):
        parser.begin(b"a,time,c")
    parser.begin(b"b,a")
    assert parser.parse(b"2,1") == Reading([1, 2], None, None)
    parser.begin(b"[1, 2]")
    parser.begin(b'"b": 2}')
    assert parser.parse(b"[1, 2]") == Reading([1, 2], None, None)


def test_the_header_of_a_truncated_file_outlives_a_restart(start, tiny, own, rows, tmp_path) -> None:
    source = tmp_path / "pump.csv"
    lines = [",".join(map(repr, row.tolist())).ljust(200 - 9 * n, ",") for n, row in enumerate(rows[:4])]
    source.write_text("\n".join(["", ",".join(COLUMNS), "1,\r,2", lines[0], ""]))
    options = (tiny, "--follow", source, "--state", tmp_path / "state")
    running = start(*options)
    running.has(1)
    for number, line in enumerate(lines[1:], 2):
        source.write_text(f"{line}\n")  # shorter than before, so that it shows whenever it is looked at
        running.has(number)
        assert running.end() == 0
        running = start(*options)
    running.end()
    assert running.err.read_text().count("a reading is left out: is not CSV") == 1
    np.testing.assert_array_equal(np.float32(running.errors), one_by_one(own, rows[:4]))


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


# --- files ---------------------------------------------------------------------------------------


class Follower:
    """`follow` in a thread; the lines that it gave."""

    def __init__(self, path: Path, position: Position | None = None, **more: int) -> None:
        self.chunks: list[Lines] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.read, args=(path, position), kwargs=more)
        self.thread.start()

    def read(self, path: Path, position: Position | None, **more: int) -> None:
        for chunk in follow(path, position, self.stop, **more):
            self.chunks.append(chunk)

    def has(self, *lines: bytes) -> None:
        try:
            wait_for(lambda: self.lines == list(lines), f"{lines}, not {self.lines}", 5)
        except AssertionError:
            self.end()
            raise

    @property
    def lines(self) -> list[bytes]:
        return [line for chunk in self.chunks for line in chunk.lines]

    def end(self) -> Position | None:
        self.stop.set()
        self.thread.join()
        return self.chunks[-1].position if self.chunks else None


def test_a_file_is_followed_through_rotation_truncation_and_restarts(tmp_path) -> None:
    path = tmp_path / "pump.csv"
    follower = Follower(path)  # that is not there yet
    path.write_bytes(b"head\n1\n2\n3")
    follower.has(b"head", b"1", b"2")
    with path.open("ab") as file:
        file.write(b"33\n4\n")
    follower.has(b"head", b"1", b"2", b"333", b"4")
    assert [chunk.is_new for chunk in follower.chunks] == [True, False]
    path.rename(tmp_path / "pump.csv.1")
    with (tmp_path / "pump.csv.1").open("ab") as file:
        file.write(b"5\n")  # whoever writes has not noticed yet
    time.sleep(0.4)
    path.write_bytes(b"head2\n6\n")
    follower.has(b"head", b"1", b"2", b"333", b"4", b"5", b"head2", b"6")
    assert follower.chunks[-1].is_new
    position = follower.end()
    with path.open("ab") as file:
        file.write(b"7\n")
    path.rename(tmp_path / "pump.csv.1")
    path.write_bytes(b"head3\n8\n")
    follower = Follower(path, position)
    follower.has(b"7", b"head3", b"8")
    assert [chunk.is_new for chunk in follower.chunks] == [False, True]
    os.truncate(path, 0)
    time.sleep(0.4)
    with path.open("ab") as file:
        file.write(b"9\n")
    follower.has(b"7", b"head3", b"8", b"9")
    follower.end()


def test_the_lines_of_a_pipe(tmp_path) -> None:
    inward, outward = os.pipe()
    os.write(outward, b"1\n2\n3")
    os.close(outward)
    with open(inward, "rb", buffering=0) as file:
        found = list(read_lines(file, None, None, threading.Event()))
    assert found == [Lines([b"1", b"2"], True), Lines([b"3"])]


def test_a_watch_of_a_file_goes_on_where_it_was_killed(start, tiny, own, rows, tmp_path) -> None:
    source = tmp_path / "pump.jsonl"
    source.touch()
    options = (tiny, "--follow", source, "--state", tmp_path / "state")
    for part in np.array_split(rows[:90], 3):
        running = start(*options)
        with source.open("a") as file:
            file.writelines(f"{json.dumps(row.tolist())}\n" for row in part)
        last = b'{"sequence":%d,' % source.read_bytes().count(b"\n")
        wait_for(lambda r=running, last=last: last in r.out.read_bytes(), "results")
        running.process.kill()
        running.process.wait()
    results = [json.loads(line) for line in running.out.read_text().splitlines()]
    unique = {result["sequence"]: result["error"] for result in results}
    np.testing.assert_array_equal(np.float32(list(unique.values())), one_by_one(own, rows[:90]))
    assert list(unique) == list(range(1, 91))


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


# --- metrics and systemd -------------------------------------------------------------------------


def parse_metrics(text: str) -> dict[str, float]:
    """A strict reader of the text format 0.0.4, for metrics without labels."""
    values: dict[str, float] = {}
    declared: set[str] = set()
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# "):
            word, name, kind = line[2:].split(" ")
            assert word == "TYPE" and name not in declared and kind in {"counter", "gauge"}
            declared.add(name)
        else:
            name, value = line.split(" ")
            assert name in declared and name not in values
            values[name] = float(value)
    return values


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


# --- what comes again ----------------------------------------------------------------------------


def test_times_that_come_again_after_a_connection_are_no_clock_that_was_set_back(own, rows) -> None:
    messages = [
        json.dumps({"values": row.tolist(), "time": 1_700_000_000 + second}).encode()
        for second, row in enumerate(rows[:150])
    ]
    metrics = new_metrics()
    intake = Intake(own, 0.5, {"hold": 0}, embedding=False, metrics=metrics, log=Log(print))
    intake.connected = time.monotonic()
    for mid, message in enumerate([*messages, *messages], 1):
        intake.take_message(message, mid, False)
    assert (len(intake.results), metrics["repeated_total"]) == (150, 150)
    intake.connected -= 61
    for message in messages:
        intake.take_message(message, 1, False)
    assert 150 < len(intake.results) < 300  # from the hundredth on they are taken


def test_one_time_far_behind_does_not_let_others_come_again(own, rows) -> None:
    messages = [
        json.dumps({"values": row.tolist(), "time": 1_700_000_000 + second, "seq": second}).encode()
        for second, row in enumerate(rows[:150])
    ]
    glitch = json.dumps({"values": rows[150].tolist(), "time": 0, "seq": 150}).encode()
    metrics = new_metrics()
    intake = Intake(own, 0.5, {"hold": 0}, embedding=False, metrics=metrics, log=Log(print))
    for mid, message in enumerate([*messages, glitch, *messages], 1):
        intake.take_message(message, mid, False)
    assert (len(intake.results), metrics["repeated_total"]) == (151, 150)  # the glitch's values may be right


def test_readings_may_have_a_time_from_some_time_on(own, rows) -> None:
    metrics = new_metrics()
    intake = Intake(own, 0.5, {"hold": 0}, embedding=False, metrics=metrics, log=Log(print))
    for second in (None, 1_700_000_000, 1_700_000_001, None):
        intake.take_message(json.dumps({"values": rows[0].tolist(), "time": second}).encode(), 0, False)
    assert (len(intake.results), metrics["rejected_total"]) == (3, 1)


# --- a new bundle, a new threshold ---------------------------------------------------------------


def scaled(source: Path, target: Path, factor: float) -> Path:
    """A copy whose manifest has another threshold: another bundle, which gives the same errors."""
    shutil.copytree(source, target)
    manifest = json.loads((target / "manifest.json").read_bytes())
    for artifact in manifest["artifacts"]:
        artifact["threshold"]["value"] *= factor
    (target / "manifest.json").write_text(json.dumps(manifest))
    (target / "manifest.sha256").unlink()  # which tells of a change by hand
    return target


@pytest.mark.slow
def test_bundles_are_swapped_under_load_and_bad_ones_refused(start, bundle, own, rows, tmp_path) -> None:
    running = start(bundle.path, "--metrics-port", 0)
    done = threading.Event()
    fed = 0

    def load() -> None:
        nonlocal fed
        while not done.is_set():
            running.feed(rows[fed % 1000 : fed % 1000 + 20])
            fed += 20
            time.sleep(0.01)

    feeder = threading.Thread(target=load)
    feeder.start()
    try:
        running.has(100)
        fresh = scaled(bundle.path, tmp_path / "2.edgeae", 2)
        bundle.path.rename(tmp_path / "old")  # by rename, as `new_folder` does it
        fresh.rename(bundle.path)
        running.says("goes on with the new bundle")
        good = {file.name: file.read_bytes() for file in bundle.path.iterdir()}
        scorer = good["scorer.float32.onnx"]
        bundle.write("scorer.float32.onnx", scorer[:-1] + bytes([scorer[-1] ^ 1]))
        running.says("refused, the old one goes on", 1)
        bundle.write("scorer.float32.onnx", scorer)
        bundle.write("manifest.json", good["manifest.json"][:100])
        running.says("refused, the old one goes on", 2)
        other = json.loads(good["manifest.json"])
        other["input"]["features"] = [f"{name}2" for name in COLUMNS]
        bundle.write("manifest.json", json.dumps(other).encode())
        running.says("its features is ('temperature2'", 1)
        final = scaled(tmp_path / "old", tmp_path / "4.edgeae", 4)
        for file in sorted(final.iterdir()):  # copied over file by file, slowly
            bundle.write(file.name, file.read_bytes())
            time.sleep(0.1)
        running.says("goes on with the new bundle", 2)
        before = fed
        wait_for(lambda: fed > before, "the load")
    finally:
        done.set()
        feeder.join()
    running.has(fed)
    assert running.end() == 0
    expected = np.tile(one_by_one(own, rows), fed // 1000 + 1)[:fed]
    np.testing.assert_array_equal(np.float32(running.errors), expected)
    log = running.err.read_text()
    assert log.count("refused, the old one goes on") == 3
    thresholds = [json.loads(line)["threshold"] for line in running.out.read_text().splitlines()]
    steps = [thresholds[0]] + [b for a, b in itertools.pairwise(thresholds) if a != b]
    base = own.threshold.value
    assert steps == pytest.approx([base, 2 * base, 4 * base])


def reading_files(content: bytes) -> bytes:
    """An ONNX model with a constant whose values are another file's."""
    model = onnx.load_from_string(content)
    stolen = model.graph.initializer.add(name="stolen", data_type=1, dims=[2], data_location=1)
    stolen.external_data.add(key="location", value="secret")
    return model.SerializeToString()


def ending_processes(content: bytes) -> bytes:
    """A TFLite model whose signature is of a subgraph that is not there."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    model.signatureDefs[0].subgraphIndex = 7
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_hostile_bundles_with_right_hashes_are_refused_and_the_old_one_goes_on(
    start, bundle, own, rows
) -> None:
    running = start(bundle.path)
    running.feed(rows[:1])
    running.has(1)
    bundle.replace("scorer.float32.onnx", reading_files(bundle.read("scorer.float32.onnx")))
    running.says(
        "scorer.float32.onnx: onnxruntime cannot load the scorer: the ONNX model has a constant 'stolen'"
    )
    bundle.replace("encoder.int8.tflite", ending_processes(bundle.read("encoder.int8.tflite")))
    bundle.keep("tflite")
    running.says("encoder.int8.tflite: litert cannot load the encoder: the TFLite model is refused")
    (bundle.path / "manifest.json").unlink()
    os.mkfifo(bundle.path / "manifest.json")
    running.says("manifest.json cannot be read (it is no regular file)")
    running.feed(rows[1:3])
    running.has(3)
    assert running.end() == 0
    np.testing.assert_array_equal(np.float32(running.errors), one_by_one(own, rows[:3]))
    assert running.err.read_text().count("refused, the old one goes on") == 3


def test_an_open_window_survives_a_swap(start, bundle, tmp_path, rows) -> None:
    with bundle.manifest() as manifest:
        manifest["input"].update(shape=[3, 2], features=None, window=3, stride=3)
    series = rows[:10].reshape(-1, 2)
    ae = edgeae_runtime.load(bundle.path, engine="onnxruntime", precision="float32")
    expected = one_by_one(ae, series.reshape(-1, 3, 2))
    running = start(bundle.path)
    running.feed(series[:8])
    running.has(2)
    fresh = scaled(bundle.path, tmp_path / "2.edgeae", 2)
    bundle.path.rename(tmp_path / "old")
    fresh.rename(bundle.path)
    running.says("goes on with the new bundle")
    running.feed(series[8:])
    running.has(10)
    np.testing.assert_array_equal(np.float32(running.errors), expected)
    assert running.end() == 0


def test_a_recalibrated_threshold_is_used_as_soon_as_it_is_there(start, bundle, own, rows) -> None:
    artifact = "scorer.float32.onnx"
    edgeae_runtime.write_threshold(
        bundle.path, artifact, edgeae_runtime.new_threshold(own.score(rows), quantile=0.5)
    )
    running = start(bundle.path)
    running.feed(rows[:1])
    running.has(1)
    new = edgeae_runtime.new_threshold(own.score(rows), quantile=0.9)
    edgeae_runtime.write_threshold(bundle.path, artifact, new)
    running.says("goes on with the new threshold")
    running.feed(rows[:1])
    running.has(2)
    found = [json.loads(line)["threshold"] for line in running.out.read_text().splitlines()]
    assert found == [np.quantile(own.score(rows).astype(float), q) for q in (0.5, 0.9)]


def test_the_threshold_of_a_refused_bundle_is_not_used(start, bundle, own, rows, tmp_path) -> None:
    running = start(bundle.path)
    running.feed(rows[:1])
    running.has(1)
    shutil.copytree(bundle.path, tmp_path / "other")
    bundle.path.rename(tmp_path / "old")
    (tmp_path / "other").rename(bundle.path)
    with bundle.manifest() as manifest:
        manifest["input"]["features"] = [f"{name}2" for name in COLUMNS]
    running.says("refused, the old one goes on")
    new = edgeae_runtime.new_threshold(own.score(rows), quantile=0.5)
    edgeae_runtime.write_threshold(bundle.path, "scorer.float32.onnx", new)
    running.says("was made for another bundle")
    running.feed(rows[:1])
    running.has(2)
    found = [json.loads(line)["threshold"] for line in running.out.read_text().splitlines()]
    assert found == [own.threshold.value] * 2


def test_a_bundle_replaced_while_the_watch_starts_is_noticed(bundle, tmp_path) -> None:
    seen = signature(bundle.path)
    old = edgeae_runtime.load(bundle.path)
    fresh = scaled(bundle.path, tmp_path / "2.edgeae", 2)
    bundle.path.rename(tmp_path / "old")
    fresh.rename(bundle.path)
    told: list[tuple[Any, ...]] = []
    stop = threading.Event()

    def post(*what: Any) -> None:
        told.append(what)
        stop.set()

    more = {"load": edgeae_runtime.load, "threshold": lambda ae: ae.threshold, "post": post, "stop": stop}
    thread = threading.Thread(target=poll, args=(bundle.path, old, seen), kwargs=more)
    thread.start()
    thread.join(10)
    stop.set()
    assert [(what[0], what[2].value) for what in told] == [("swap", 2 * old.threshold.value)]


def test_a_bundle_that_hangs_or_fills_the_memory_does_not_keep_the_next_one_out(
    start, bundle, tmp_path, own, rows
) -> None:
    running = start(bundle.path, "--swap-seconds", 3, "--swap-memory", 200, "--metrics-port", 0)
    running.feed(rows[:1])
    running.has(1)
    fed = 1
    for number, spoil in enumerate((type(bundle).never_end, lambda bad: bad.burden(side=1_000_000)), 1):
        bad = type(bundle)(shutil.copytree(bundle.path, tmp_path / f"{number}.edgeae"))
        spoil(bad)
        bundle.path.rename(tmp_path / f"old{number}")
        bad.path.rename(bundle.path)
        running.says("refused, the old one goes on", number)
        running.feed(rows[fed : fed + 5])
        fed += 5
        running.has(fed)
        bundle.path.rename(tmp_path / f"bad{number}")
        (tmp_path / f"old{number}").rename(bundle.path)
    fresh = scaled(bundle.path, tmp_path / "good.edgeae", 2)
    bundle.path.rename(tmp_path / "old")
    fresh.rename(bundle.path)
    running.says("goes on with the new bundle")
    running.feed(rows[fed : fed + 5])
    running.has(fed + 5)
    address, *lines = running.err.read_text().splitlines()
    assert len(lines) == 3
    with urllib.request.urlopen(address.split(" on ")[1], timeout=5) as answer:
        found = parse_metrics(answer.read().decode())
    assert (found["edgeae_refused_total"], found["edgeae_swaps_total"]) == (2, 1)
    np.testing.assert_array_equal(np.float32(running.errors), one_by_one(own, rows[: fed + 5]))
    assert running.end() == 0


def test_a_stop_does_not_wait_for_a_bundle_that_hangs(start, bundle, rows) -> None:
    running = start(bundle.path)
    running.feed(rows[:1])
    running.has(1)
    bundle.never_end()
    children = Path(f"/proc/{running.process.pid}/task")

    def child() -> list[str]:
        return [pid for task in children.iterdir() for pid in (task / "children").read_text().split()]

    wait_for(lambda: bool(child()), "the process that verifies")
    (pid,) = child()
    assert running.end() == 0
    assert not Path(f"/proc/{pid}/cmdline").exists()


# --- lines that are too long ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [101, 40_000, 3_000_000])
@pytest.mark.parametrize("place", ["first", "middle", "last", "unfinished"])
def test_a_line_that_is_too_long_is_left_out_wherever_it_is(tmp_path, size, place) -> None:
    long = b"x" * size
    lines = {
        "first": [long, b"1", b"2"],
        "middle": [b"1", long, b"2"],
        "last": [b"1", b"2", long],
        "unfinished": [b"1", b"2", long],
    }[place]
    path = tmp_path / "pump.csv"
    path.write_bytes(b"\n".join(lines) + b"\n" * (place != "unfinished"))
    with path.open("rb", buffering=0) as file:
        found = list(read_lines(file, None, None, threading.Event(), 100))
    assert [line for lines in found for line in lines.lines] == [b"1", b"2"]
    assert sum(lines.too_long for lines in found) == 1
    follower = Follower(path, limit=100)
    follower.has(b"1", b"2")
    with path.open("ab") as file:
        file.write(b"\n3\n" if place == "unfinished" else b"3\n")
    follower.has(b"1", b"2", b"3")
    position = follower.end()
    assert sum(lines.too_long for lines in follower.chunks) == 1
    assert position.offset == path.stat().st_size


def test_a_pipe_without_a_newline_does_not_fill_the_memory(start, tiny, own, rows) -> None:
    running = start(tiny)
    running.feed(rows[:2])
    running.has(2)
    for _ in range(300):
        running.process.stdin.write(b"[" * 1_000_000)
    running.process.stdin.write(b"\n")
    running.feed(rows[2:4])
    running.has(4)
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0])
    assert peak < 150_000
    assert running.end() == 0
    assert running.err.read_text() == (
        "edgeae watch: a reading is left out: a line is longer than --max-reading allows\n"
    )
    np.testing.assert_array_equal(np.float32(running.errors), one_by_one(own, rows[:4]))
