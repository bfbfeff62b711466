"""What the tests of `edgeae watch` share: the command in a process of its own, and a real broker."""

import collections
import json
import os
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from packages import needs
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import edgeae_runtime
from edgeae_runtime import EdgeaeError, watch
from edgeae_runtime.watch import Lines, Position, Post, Sink, WatchConfig

EDGEAE = Path(sys.executable).with_name("edgeae")
EXACT = ("--engine", "onnxruntime", "--precision", "float32")
COLUMNS = ["temperature", "pressure", "vibration", "voltage", "current", "speed"]
TOPIC, RESULTS = "sensors/pump", "edgeae/pump"


def wait_for(is_so: Callable[[], bool], what: str, seconds: float = 30) -> None:
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


def one_by_one(ae: edgeae_runtime.Autoencoder, samples: np.ndarray) -> np.ndarray:
    """The errors as a stream computes them: a batch may differ in the last bit."""
    return np.array([ae.score(sample) for sample in samples], np.float32)


def read_url(address: str) -> str:
    with urllib.request.urlopen(address, timeout=5) as answer:
        return answer.read().decode()


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


# --- as a library -----------------------------------------------------------------------------------


class Rows(watch.Source):
    """Readings from the test itself."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()

    def feed(self, rows: Any) -> None:
        self.queue.put([json.dumps(row.tolist()).encode() for row in rows])

    def run(self, post: Post, since: Position | None) -> None:
        while (lines := self.queue.get()) is not None:
            post(Lines(lines))

    def stop(self) -> None:
        self.queue.put(None)


class Watching:
    """A watch in a thread of this process."""

    def __init__(self, bundle: Path, sink: Sink | None = None, **settings: Any) -> None:
        self.rows, self.sink, self.stopping = Rows(), sink, threading.Event()
        self.error: EdgeaeError | None = None
        config = WatchConfig(engine="onnxruntime", precision="float32", metrics_port=0, **settings)
        self.thread = threading.Thread(target=self._run, args=(bundle, config))
        self.thread.start()

    def _run(self, bundle: Path, config: WatchConfig) -> None:
        try:
            watch.run(bundle, config, source=self.rows, sink=self.sink, stop=self.stopping)
        except EdgeaeError as error:
            self.error = error

    def end(self) -> None:
        self.stopping.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


def counts(caplog) -> dict[str, float]:
    """The metrics of the watch that was started last."""

    def addresses() -> list[str]:
        found = (text.partition("metrics on ") for text in caplog.messages)
        return [address for _, is_there, address in found if is_there]

    wait_for(lambda: bool(addresses()), "the metrics")
    return parse_metrics(read_url(addresses()[-1]))


def said(caplog) -> list[str]:
    return [text for text in caplog.messages if not text.startswith("metrics on ")]


# --- MQTT -----------------------------------------------------------------------------------------


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Mosquitto:
    def __init__(self, folder: Path, *lines: str, tls: bool = False) -> None:
        self.program = needs("mosquitto")
        # no port that the system may give to somebody else, such as a client that looks for this very broker
        self.port = next(port for port in iter(lambda: random.randrange(20_000, 30_000), 0) if is_free(port))
        folder.mkdir()
        self.config = folder / "mosquitto.conf"
        settings = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {folder}/",
            "max_queued_messages 0",  # no limit
            "log_dest none",
            *(["user root"] if os.getuid() == 0 else []),
            *(lines or ["allow_anonymous true"]),
        ]
        self.config.write_text("\n".join(settings) + "\n")
        self.url = f"{'mqtts' if tls else 'mqtt'}://localhost:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen([self.program, "-c", self.config], stderr=subprocess.DEVNULL)
        wait_for(self._is_up, "mosquitto")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def _is_up(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Client:
    """A publisher with a queue of its own, or a collector; both with a persistent session, QoS 1."""

    def __init__(self, broker: Mosquitto, name: str, topic: str | None = None) -> None:
        self.messages: list[Any] = []
        self.published = self.handed = 0
        self.queue: collections.deque[str] = collections.deque()
        self.closed = threading.Event()
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        subscribed = threading.Event()
        self.client = client

        def on_connect(client: paho.Client, *_: object) -> None:
            if topic is None:
                subscribed.set()
            else:
                client.subscribe(topic, 1)

        def count(*_: object) -> None:
            self.published += 1

        client.on_connect = on_connect
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = lambda client, data, message: self.messages.append(message)
        client.on_publish = count
        client.reconnect_delay_set(0.05, 0.2)
        client.connect_async("127.0.0.1", broker.port, clean_start=False, properties=properties)
        client.loop_start()
        assert subscribed.wait(10)
        threading.Thread(target=self.pump, daemon=True).start()

    def publish(self, payload: object) -> None:
        self.queue.append(json.dumps(payload))

    def pump(self) -> None:
        """Hand over as much as may be in flight: paho lets new messages overtake those that it queues."""
        while not self.closed.wait(0.002):
            while self.queue and self.handed - self.published < 20 and self.client.is_connected():
                self.client.publish(TOPIC, self.queue.popleft(), qos=1)
                self.handed += 1

    def close(self) -> None:
        self.closed.set()
        self.client.disconnect()
        self.client.loop_stop()

    @property
    def results(self) -> list[dict[str, Any]]:
        return [json.loads(message.payload) for message in list(self.messages)]


class Watch:
    """The installed command in a process of its own."""

    def __init__(self, broker: Mosquitto, bundle: Path, state: Path, *more: object, **env: str) -> None:
        words = [EDGEAE, "watch", bundle, "--mqtt", broker.url, "--topic", TOPIC, "--publish", RESULTS]
        words += ["--state", state, "--engine", "onnxruntime", "--precision", "float32", *more]
        self.log = state.with_suffix(".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(list(map(str, words)), stderr=log, env={**os.environ, **env})

    def says(self, text: str, times: int = 1) -> None:
        def is_said() -> bool:
            log = self.log.read_text()
            assert self.process.poll() is None, f"it ended: {log}"
            return log.count(text) >= times

        wait_for(is_said, f"{text!r} in the log")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)


class Raw:
    """Publishes bytes as they are."""

    def __init__(self, broker: Mosquitto) -> None:
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()

    def send(self, payload: bytes) -> None:
        self.client.publish(TOPIC, payload, qos=1).wait_for_publish(20)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def readings(count: int) -> list[list[float]]:
    return np.random.default_rng(7).normal(50, 10, (count, 2)).round(3).tolist()


def assert_each_window_once(bundle: Path, rows: list[list[float]], found: list[dict[str, Any]]) -> None:
    """After deduplication by sequence number: all windows, in order, as in one uninterrupted stream."""
    stream = edgeae_runtime.load(bundle, engine="onnxruntime", precision="float32").stream()
    expected = {r.sequence: r.error for r in map(stream.push, rows) if r is not None}
    unique = {result["sequence"]: result["error"] for result in found}
    assert unique.keys() == expected.keys()
    np.testing.assert_array_equal(list(unique.values()), list(expected.values()))  # also their order
    assert all(result["error"] == unique[result["sequence"]] for result in found)


def metrics(watch: Watch) -> dict[str, float]:
    address = re.findall(r"metrics on (\S+)", watch.log.read_text())[-1]
    with urllib.request.urlopen(address, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if line[0] != "#")}


def peak(watch: Watch) -> int:
    """The most memory that it had, in MB."""
    status = Path(f"/proc/{watch.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1000
