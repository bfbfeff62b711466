"""`edgeae watch` with a real broker: Mosquitto, started, stopped and started again on a free port.

EDGEAE_FULL=1 makes the two long tests as long as a night of bad luck.
"""

import collections
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pytest
from packages import needs
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import edgeae_runtime

FULL = bool(os.environ.get("EDGEAE_FULL"))
EDGEAE = Path(sys.executable).with_name("edgeae")
TOPIC, RESULTS = "sensors/pump", "edgeae/pump"


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


def wait_for(is_so: Callable[[], bool], what: str, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path / "mosquitto")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def windowed(tiny: Path, tmp_path: Path) -> Path:
    """The tiny bundle as one of windows of three readings of two channels."""
    folder = shutil.copytree(tiny, tmp_path / "pump.edgeae")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["input"].update(shape=[3, 2], features=None, window=3, stride=1)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def clients(broker: Mosquitto) -> Iterator[tuple[Client, Client]]:
    """A publisher and a collector."""
    publisher, collector = Client(broker, "publisher"), Client(broker, "collector", RESULTS)
    yield publisher, collector
    publisher.close()
    collector.close()


@pytest.fixture
def watches() -> Iterator[Callable[..., Watch]]:
    """Starts watches, and ends those that a test left."""
    started: list[Watch] = []

    def start(*arguments: Any, **env: str) -> Watch:
        started.append(Watch(*arguments, **env))
        return started[-1]

    yield start
    for watch in started:
        if watch.process.poll() is None:
            watch.kill()


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


def test_readings_come_in_and_results_go_out(broker, clients, windowed, tmp_path, watches) -> None:
    publisher, collector = clients
    status = Client(broker, "status", f"{RESULTS}/status")
    watch = watches(broker, windowed, tmp_path / "state", "--embedding")
    watch.says("connected")
    rows = readings(30)
    for row in rows:
        publisher.publish(row)
    publisher.publish("nonsense")
    wait_for(lambda: len(collector.messages) >= 28, "results")
    assert watch.stop() == 0
    assert_each_window_once(windowed, rows, collector.results)
    assert len(collector.messages) == 28
    first = collector.results[0]
    assert list(first) == ["sequence", "time", "error", "threshold", "anomaly", "alarm", "embedding", "drift"]
    assert len(first["embedding"]) == 2
    wait_for(lambda: len(status.messages) >= 2, "status")
    status.close()
    assert [message.payload for message in status.messages] == [b"online", b"offline"]
    log = watch.log.read_text().splitlines()
    assert log == [
        "edgeae watch: connected",
        "edgeae watch: a reading is left out: is neither a list of numbers nor an object but 'nonsense'",
    ]


def test_the_broker_says_offline_for_a_watch_that_was_killed(broker, windowed, tmp_path, watches) -> None:
    watch = watches(broker, windowed, tmp_path / "state", "--home-assistant")
    watch.says("connected")
    status = Client(broker, "status", f"{RESULTS}/status")
    wait_for(lambda: [m.payload for m in status.messages] == [b"online"], "online")
    assert status.messages[0].retain
    watch.kill()
    wait_for(lambda: [m.payload for m in status.messages][-1] == b"offline", "the will")
    status.close()


@pytest.mark.slow
def test_a_broker_that_comes_and_goes_costs_no_window(broker, clients, windowed, tmp_path, watches) -> None:
    restarts, count = (20, 20_000) if FULL else (3, 1500)
    publisher, collector = clients
    watch = watches(broker, windowed, tmp_path / "state")
    watch.says("connected")
    rows = readings(count)
    parts = np.array_split(np.arange(count), restarts)
    for number, part in enumerate(parts):
        for place, i in enumerate(part):
            publisher.publish({"values": rows[i], "seq": int(i)})
            if place == len(part) // 3:
                broker.stop()
            if place == 2 * len(part) // 3:
                time.sleep(0.2)
                up = watch.log.read_text().count("connected")
                broker.start()
                if number % 2:  # else the next outage may begin before this one is over for the watch
                    wait_for(lambda n=up: watch.log.read_text().count("connected") > n, "the watch")
            if place % 10 == 0:
                time.sleep(0.01)
        wait_for(lambda n=part[-1] + 1: publisher.published >= n, "the publisher")
    enough = {*range(1, count - 1)}
    wait_for(lambda: len(collector.messages) >= count - 2, "results", 120)
    wait_for(lambda: {r["sequence"] for r in collector.results} >= enough, "results", 60)
    assert watch.stop() == 0
    assert_each_window_once(windowed, rows, collector.results)
    assert watch.log.read_text().count("connected") > restarts // 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["seq", "time", "plain"])
def test_a_watch_that_is_killed_goes_on(broker, clients, windowed, tmp_path, watches, kind) -> None:
    kills, count = (20, 5_000) if FULL else (3, 600)
    publisher, collector = clients
    rows = readings(count)
    for number, part in enumerate(np.array_split(np.arange(count), kills + 1)):
        watch = watches(broker, windowed, tmp_path / "state")
        watch.says("connected", number + 1)
        before = len(collector.messages)
        for i in part:
            more = {"seq": {"seq": int(i)}, "time": {"time": 1_700_000_000 + int(i)}, "plain": {}}[kind]
            publisher.publish({"values": rows[i], **more})
        if number < kills:  # in the middle of what there is to do
            enough = before + len(part) // 3
            wait_for(lambda n=enough: len(collector.messages) > n, "results")
            watch.kill()
    wait_for(lambda: any(r["sequence"] == count - 2 for r in collector.results), "the last window")
    assert watch.stop() == 0
    assert_each_window_once(windowed, rows, collector.results)


def test_results_of_a_broken_link_wait_on_the_disk(broker, clients, windowed, tmp_path, watches) -> None:
    """Readings from a file, so that they come while there is no broker."""
    _, collector = clients
    rows = readings(50)
    source = tmp_path / "pump.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows[:20]))
    broker.stop()
    words = [EDGEAE, "watch", windowed, "--mqtt", broker.url, "--publish", RESULTS, "--follow", source]
    words += ["--state", tmp_path / "state", "--engine", "onnxruntime", "--precision", "float32"]
    process = subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, text=True)
    log = tmp_path / "state" / "spool.db-wal"
    wait_for(lambda: log.exists() and b'"sequence":18,' in log.read_bytes(), "the spool")
    process.terminate()
    said = process.communicate(timeout=15)[1]
    assert process.returncode == 0
    assert "no connection: Connection refused; trying again\n" in said
    assert "18 results are left in" in said
    with source.open("a") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows[20:])
    broker.start()
    process = subprocess.Popen(list(map(str, words)), stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(collector.messages) >= 48, "results")
    finally:
        process.terminate()
        process.wait(15)
    assert_each_window_once(windowed, rows, collector.results)
    assert len(collector.messages) == 48


def test_results_that_the_broker_refuses_are_kept(broker, clients, windowed, tmp_path, watches) -> None:
    _, collector = clients
    rules = tmp_path / "rules"
    rules.write_text(f"topic readwrite {TOPIC}\ntopic read #\ntopic write {RESULTS}/status\n")
    locked = Mosquitto(tmp_path / "refusing", "allow_anonymous true", f"acl_file {rules}")
    locked.start()
    try:
        watch = watches(locked, windowed, tmp_path / "state")
        watch.says("connected")
        source = Client(locked, "source")
        for row in readings(6):
            source.publish(row)
        assert watch.process.wait(20) == 1
        source.close()
    finally:
        locked.stop()
    assert f":{locked.port}: the broker refuses a message: Not authorized\n" in watch.log.read_text()
    watch = watches(broker, windowed, tmp_path / "state")
    wait_for(lambda: bool(collector.messages), "results")
    assert watch.stop() == 0
    assert collector.results[0]["sequence"] == 1


# --- secrets -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority of our own, and a server's certificate by it."""
    needs("openssl")
    folder = tmp_path_factory.mktemp("tls")
    (folder / "names").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
    for words in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=test-ca "
        "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 30 "
        "-extfile names",
    ):
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def locked(certificates: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker with TLS and a password."""
    needs("mosquitto")
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", passwords, "pump", "s3cr3t:-)"], check=True)
    broker = Mosquitto(
        tmp_path / "locked",
        "allow_anonymous false",
        f"password_file {passwords}",
        f"certfile {certificates}/server.pem",
        f"keyfile {certificates}/server.key",
        tls=True,
    )
    broker.start()
    yield broker
    broker.stop()


def test_tls_and_a_password(locked, certificates, windowed, tmp_path, watches) -> None:
    secret = tmp_path / "credentials"
    secret.write_text("pump:s3cr3t:-)\n")
    options = ["--ca-file", certificates / "ca.pem"]
    for number, (more, env) in enumerate(
        [
            (["--credentials", secret], {}),
            ([], {"EDGEAE_MQTT_USERNAME": "pump", "EDGEAE_MQTT_PASSWORD": "s3cr3t:-)"}),
        ]
    ):
        watch = watches(locked, windowed, tmp_path / f"state{number}", *options, *more, **env)
        watch.says("connected")
        assert b"s3cr3t" not in Path(f"/proc/{watch.process.pid}/cmdline").read_bytes()
        assert watch.stop() == 0
        assert "s3cr3t" not in watch.log.read_text()


@pytest.mark.parametrize(
    ("options", "password", "reason"),
    [
        (["--ca-file", "ca.pem"], "wrong", "the broker refuses the connection: Not authorized"),
        ([], "s3cr3t:-)", "unable to get local issuer certificate"),
    ],
)
def test_what_will_never_work_ends_in_a_line(
    locked, certificates, windowed, tmp_path, watches, options, password, reason
) -> None:
    options = [certificates / word if word.endswith(".pem") else word for word in options]
    env = {"EDGEAE_MQTT_USERNAME": "pump", "EDGEAE_MQTT_PASSWORD": password}
    watch = watches(locked, windowed, tmp_path / "state", *options, **env)
    assert watch.process.wait(20) == 1
    assert watch.log.read_text() == f"Error: localhost:{locked.port}: {reason}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mqtt", "mqtt://me:pw@host", "--topic", "a"], "do not belong on the command line"),
        (["--mqtt", "http://host", "--topic", "a"], "expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"),
        (["--mqtt", "mqtt://host:http", "--topic", "a"], "expected mqtt://HOST[:PORT]"),
        (["--mqtt", "mqtt://a..b", "--topic", "a"], "expected mqtt://HOST[:PORT]"),
        (["--mqtt", "mqtt://host", "--topic", "a/#"], "expected one topic, without + or #, found 'a/#'"),
        (["--mqtt", "mqtt://host"], "--mqtt needs --topic, --publish or both"),
        (["--topic", "a"], "--topic needs --mqtt"),
        (["--mqtt", "mqtt://host", "--topic", "a", "--publish", "a"], "are the same"),
        (["--mqtt", "mqtt://host", "--topic", "a", "--follow", "f"], "two sources of readings"),
        (["--mqtt", "mqtt://host", "--topic", "a", "--home-assistant"], "--home-assistant needs --publish"),
        (["--mqtt", "mqtt://host", "--topic", "a", "--ca-file", "f"], "is for a TLS connection"),
        (["--mqtt", "mqtt://host", "--topic", "a", "--credentials", "none"], "none: cannot be read"),
    ],
)
def test_options_that_do_not_fit_are_refused(refused, tiny, options, message) -> None:
    said = refused("watch", tiny, *options)
    assert message in said
    assert "pw" not in said


# --- Home Assistant ------------------------------------------------------------------------------


def test_home_assistant_finds_the_entities(broker, windowed, tmp_path, watches) -> None:
    watch = watches(broker, windowed, tmp_path / "state", "--home-assistant")
    watch.says("connected")
    finder = Client(broker, "ha", "homeassistant/#")
    wait_for(lambda: bool(finder.messages), "the discovery")
    finder.close()
    (message,) = finder.messages
    assert message.retain
    config = json.loads(message.payload)
    (identifier,) = config["device"]["identifiers"]
    assert re.fullmatch("edgeae-[0-9a-f]{12}", identifier)
    assert message.topic == f"homeassistant/device/{identifier}/config"
    assert {"device", "origin", "components", "state_topic", "availability_topic"} <= config.keys()
    assert config["state_topic"] == RESULTS
    assert config["availability_topic"] == f"{RESULTS}/status"
    assert config["origin"]["name"] == "edgeae"
    components = config["components"]
    assert {"score": "sensor", "threshold": "sensor", "alarm": "binary_sensor"}.items() <= {
        name: entry["platform"] for name, entry in components.items()
    }.items()
    ids = [entry["unique_id"] for entry in components.values()]
    assert len(set(ids)) == len(ids)
    result = edgeae_runtime.StreamResult._fields
    for entry in components.values():
        assert set(re.findall(r"value_json\.(\w+)", entry["value_template"])) <= set(result)
