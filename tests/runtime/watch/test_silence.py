"""Sensors that die, senders that go: `edgeae watch` says so, and says when they are back."""

import json
import logging
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

import edgeae_runtime
from edgeae_runtime.watch import silence as watch_silence
from edgeae_runtime.watch.config import WatchConfig
from edgeae_runtime.watch.intake import Intake
from edgeae_runtime.watch.metrics import Metrics
from edgeae_runtime.watch.silence import DEFAULT_SECONDS, LEAST_SECONDS, SILENT_STEPS, Silence

EDGEAE = Path(sys.executable).with_name("edgeae")
NAMES = ["temperature", "pressure", "vibration", "voltage", "current", "speed"]
READING = dict(zip(NAMES, [60.0, 101_000.0, 0.005, -99.5, 3.5, 2850.0], strict=True))
START = 1_700_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Listener:
    """An intake under a clock that only goes when told, and what it says of its readings."""

    def __init__(self, ae, monkeypatch, **options) -> None:
        self.clock = Clock()
        monkeypatch.setattr(watch_silence, "time", self.clock)
        self.log: list[str] = []
        self.metrics = Metrics()
        log = logging.getLogger("edgeae_runtime.watch.silence")
        log.setLevel(logging.INFO)
        monkeypatch.setattr(log, "filters", [self.note])
        self.intake = Intake(ae, 0.5, WatchConfig(**options), metrics=self.metrics, log=log)

    def note(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "stale" in text:
            self.log.append(text)
        return False

    def take(self, reading=None, *, after: float = 1.0, **changed) -> None:
        self.wait(after)
        fields = {**READING, **changed} if reading is None else reading
        line = {name: value for name, value in fields.items() if value is not ...}
        self.intake.take_message(json.dumps(line).encode(), 0, False)

    def wait(self, seconds: float) -> None:
        """As the loop of the watch does, which looks at least each second."""
        while seconds > 0:
            self.clock.now += min(1.0, seconds)
            seconds -= 1.0
            self.intake.silence.check()

    def said(self) -> list[str]:
        said, self.log[:] = list(self.log), []
        return said


@pytest.fixture(scope="module")
def ae(tiny) -> edgeae_runtime.Autoencoder:
    return edgeae_runtime.load(tiny, engine="onnxruntime", precision="float32")


@pytest.fixture
def listener(ae, monkeypatch) -> Listener:
    return Listener(ae, monkeypatch)


@pytest.mark.parametrize("gone", [None, ..., math.nan, -math.inf, "unavailable", "", "?", [], {}, 1e39])
def test_a_dead_sensor_is_named_after_ten_readings_and_when_it_is_back(listener, gone) -> None:
    for _ in range(30):
        listener.take()
    for _ in range(SILENT_STEPS - 1):
        listener.take(speed=gone)
    assert listener.said() == []
    assert listener.metrics.stale == 0
    for _ in range(50):
        listener.take(speed=gone)
    assert listener.said() == ["stale: none of the last 10 readings was full: speed is missing"]
    assert listener.metrics.stale == 1
    assert listener.metrics.full_reading_age_seconds == 59
    listener.take()
    assert listener.said() == ["stale no more: full readings come again; speed is back"]
    assert listener.metrics.stale == listener.metrics.full_reading_age_seconds == 0


def test_several_are_named_and_one_that_follows_is_told_too(listener) -> None:
    for _ in range(20):
        listener.take(speed=None, voltage="unavailable")
    for _ in range(20):
        listener.take(speed=None, voltage=None, current=...)
    listener.take()
    assert listener.said() == [
        "stale: none of the last 10 readings was full: voltage, speed are missing",
        "stale: none of the last 10 readings was full: voltage, speed, current are missing",
        "stale no more: full readings come again; voltage, speed, current are back",
    ]


def test_a_value_missing_now_and_then_is_not_told(listener) -> None:
    for i in range(200):
        listener.take(speed=None if i % 10 else 2850.0)
    assert listener.said() == []


@pytest.mark.parametrize("step", [0.1, 1.0, 60.0, 3600.0])
@pytest.mark.parametrize("is_timed", [True, False])
def test_silence_is_told_after_ten_usual_steps(listener, step, is_timed) -> None:
    for i in range(30):
        listener.take(after=step, time=START + i * step if is_timed else None)
    limit = max(LEAST_SECONDS, SILENT_STEPS * step)
    assert (listener.said() == []) is (step < DEFAULT_SECONDS)  # until the step is known
    listener.wait(limit - 0.5)
    assert listener.said() == []
    listener.wait(limit)
    assert listener.said() == [f"stale: no reading came for {limit:.3g} s"]
    listener.wait(10 * limit)
    listener.take(time=START + 10**6 if is_timed else None)
    assert listener.said() == ["stale no more: full readings come again"]


def test_readings_in_bursts_are_no_silence_where_they_have_times(listener) -> None:
    for minute in range(30):
        for second in range(0, 60, 10):
            listener.take(after=60.0 if second == 0 else 0.0, time=START + 60 * minute + second)
    assert listener.said() == []


def test_silence_from_the_start_is_told_after_a_while(listener) -> None:
    listener.intake.silence.remark = " (or they are too large)"
    listener.wait(DEFAULT_SECONDS - 1)
    assert listener.said() == []
    listener.wait(5)
    assert listener.said() == ["stale: no reading came for 600 s (or they are too large)"]
    assert math.isnan(listener.metrics.full_reading_age_seconds)


def test_what_nothing_is_usual_of_may_be_given(ae, monkeypatch) -> None:
    listener = Listener(ae, monkeypatch, stale_after=3.0)
    listener.wait(5)
    assert listener.said() == ["stale: no reading came for 3 s"]


@pytest.mark.parametrize(
    ("reading", "told"),
    [
        ({"nothing": 1}, "left out, as told"),
        ({**READING, "seq": "x"}, "left out, as told"),
        ({**READING, "time": START - 5}, "late"),
    ],
)
def test_readings_that_are_never_taken_are_told(listener, reading, told) -> None:
    listener.take(time=START)
    for _ in range(20):
        listener.take(reading)
    assert listener.said() == [f"stale: none of the last 10 readings was full: {told}"]


@pytest.mark.parametrize("reading", [[[1, 1, 1, 1, 1, None]], [1, 1, 1, 1, 1, 2**128], [1, 1, 1, 1, 1, None]])
def test_readings_that_are_never_full_are_told_however_they_are_written(ae, monkeypatch, reading) -> None:
    listener = Listener(ae, monkeypatch)
    for _ in range(30):
        listener.clock.now += 1
        listener.intake.take_message(json.dumps(reading).encode(), 0, False)
    (told,) = listener.said()
    assert told.startswith("stale: none of the last 10 readings was full")
    assert listener.intake.silence.is_stale


def test_readings_that_never_complete_a_window_are_told(bundle, monkeypatch) -> None:
    with bundle.manifest() as manifest:
        manifest["input"].update(shape=[3, 2], features=["heat", "load"], window=3, stride=1)
    listener = Listener(edgeae_runtime.load(bundle.path), monkeypatch)
    for i in range(100):
        listener.take({"heat": 1.0, "load": 2.0 if i % 3 else None})
    assert listener.said() == ["stale: none of the last 40 readings completed a window of 3: load is missing"]
    for _ in range(3):
        listener.take({"heat": 1.0, "load": 2.0})
    assert listener.said() == ["stale no more: full readings come again; load is back"]


def test_channels_without_names_are_counted(bundle, monkeypatch) -> None:
    with bundle.manifest() as manifest:
        manifest["input"].update(features=None)
    listener = Listener(edgeae_runtime.load(bundle.path), monkeypatch)
    for _ in range(20):
        listener.take({"values": [1, None, 3, 4, 5, None]})
    assert listener.said() == [
        "stale: none of the last 10 readings was full: channel 2, channel 6 are missing"
    ]


def test_the_expiry_of_a_result_covers_the_next_one() -> None:
    step = 0.0
    wanted = edgeae_runtime.Input(shape=(60, 1), window=60, stride=10)
    silence = Silence(
        wanted, lambda: step, seconds=None, log=logging.getLogger("edgeae_runtime.watch"), metrics=Metrics()
    )
    assert silence.expiry is None
    step = 60.0
    assert silence.expiry == 10 * 60 + 70 * 60


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [None, ...])
@pytest.mark.parametrize("source", ["pipe", "file"])
def test_a_pipe_and_a_file_tell_it(tiny, tmp_path, gone, source) -> None:
    lines = []
    for i in range(100):
        fields = {**READING, "speed": gone if 40 <= i < 90 else 2850.0, "time": START + 60 * i}
        lines.append(json.dumps({name: value for name, value in fields.items() if value is not ...}))
    path = tmp_path / "pump.jsonl"
    path.write_text("\n".join([*lines, ""]))
    words = [EDGEAE, "watch", tiny]
    if source == "file":
        words += ["--follow", path, "--state", tmp_path / "state"]
    with (
        path.open() as stdin,
        subprocess.Popen(
            words, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None and process.stderr is not None
        results = [json.loads(process.stdout.readline()) for _ in range(50)]
        process.terminate()
        said = process.stderr.read()
    assert results[-1]["time"] == "2023-11-14T23:52:20"
    assert said.splitlines() == [
        "edgeae watch: stale: none of the last 10 readings was full: speed is missing",
        "edgeae watch: stale no more: full readings come again; speed is back",
    ]


def test_a_pipe_in_which_nothing_comes_any_more_tells_it(tiny, tmp_path) -> None:
    words = [EDGEAE, "watch", tiny, "--stale-after", "0.7"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        assert process.stderr.readline() == b"edgeae watch: stale: no reading came for 0.7 s\n"
        time.sleep(0.1)
        process.stdin.write(json.dumps(READING).encode() + b"\n")
        process.stdin.flush()
        assert process.stderr.readline() == b"edgeae watch: stale no more: full readings come again\n"
        process.terminate()
        assert process.wait(15) == 0
