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
import urllib.request
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
    (folder / "manifest.sha256").unlink()  # which tells of a change by hand
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


# --- what is too large, and what does not come ---------------------------------------------------


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


COSTLY = {
    "deep": b"[" * 400_000,
    "deep and closed": b'{"values":' + b"[" * 900 + b"1" + b"]" * 900 + b"}",
    "many numbers": b"[%s]" % b",".join([b"1"] * 450_000),
    "many lists": b"[%s]" % b",".join([b"[]"] * 300_000),
    "a huge integer": b'{"values":[1,%s]}' % (b"9" * 900_000),
    "an integer of 4000 digits": b'{"values":[1,%s]}' % (b"9" * 4000),
    "a long text": b'["%s",2]' % (b"x" * 900_000),
    "a long text and many short ones": b'["%s"%s]' % (b"x" * 500_000, b',"x"' * 100_000),
    "a long text in a list": b'[["%s"]%s]' % (b"x" * 500_000, b',["x"]' * 60_000),
    "long names": b'{"%s":1}' % (b"n" * 900_000),
    "many names": b"{%s}" % b",".join(b'"%d":1' % i for i in range(80_000)),
    "a long time": b'{"values":[1,2],"time":"%s"}' % (b"9" * 900_000),
    "a long seq": b'{"values":[1,2],"seq":"%s"}' % (b"9" * 900_000),
    "a seq of lists": b'{"values":[1,2],"seq":%s}' % (b"[" * 900 + b"]" * 900),
    "no text": bytes(range(256)) * 3000,
    "lines": b'"a\\n\\u001b[2Jb"',
    "nothing": b"",
}


def metrics(watch: Watch) -> dict[str, float]:
    address = re.findall(r"metrics on (\S+)", watch.log.read_text())[-1]
    with urllib.request.urlopen(address, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if line[0] != "#")}


def peak(watch: Watch) -> int:
    """The most memory that it had, in MB."""
    status = Path(f"/proc/{watch.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1000


def test_messages_that_cost_too_much_are_left_out_and_the_watch_goes_on(
    broker, clients, windowed, tmp_path, watches
) -> None:
    _, collector = clients
    watch = watches(broker, windowed, tmp_path / "state", "--metrics-port", 0)
    watch.says("connected")
    raw = Raw(broker)
    rows = readings(3 + len(COSTLY))
    for row in rows[:3]:
        raw.send(json.dumps(row).encode())
    for number, (row, payload) in enumerate(zip(rows[3:], COSTLY.values(), strict=True), 1):
        raw.send(payload)
        raw.send(json.dumps(row).encode())
        wait_for(lambda n=number: len(collector.messages) == n + 1, f"a result after {[*COSTLY][number - 1]}")
    raw.close()
    assert metrics(watch)["edgeae_rejected_total"] == len(COSTLY)
    assert_each_window_once(windowed, rows, collector.results)
    assert peak(watch) < 300
    assert watch.stop() == 0
    said = watch.log.read_text().splitlines()[2:]
    assert said and all(line.startswith("edgeae watch: a reading is left out: ") for line in said)
    assert all(len(line) < 600 and line.isprintable() for line in said)
    again = watches(broker, windowed, tmp_path / "state", "--metrics-port", 0)
    again.says("connected", 2)
    time.sleep(0.3)
    assert metrics(again)["edgeae_rejected_total"] == 0  # they were acknowledged, so they do not come again
    assert again.stop() == 0


@pytest.mark.parametrize("more", [[], ["--max-reading", 2000]])
def test_what_is_too_large_stays_with_the_broker(broker, clients, windowed, tmp_path, watches, more) -> None:
    _, collector = clients
    watch = watches(broker, windowed, tmp_path / "state", "--stale-after", 2, *more)
    watch.says("connected")
    raw = Raw(broker)
    rows = readings(6)
    for row in rows[:3]:
        raw.send(json.dumps(row).encode())
    size = more[1] if more else 50_000_000
    for _ in range(3):
        raw.send(b"[1,2%s]" % (b" " * size))
    for row in rows[3:]:
        raw.send(json.dumps(row).encode())
    wait_for(lambda: len(collector.messages) == 4, "results")
    assert_each_window_once(windowed, rows, collector.results)
    assert peak(watch) < 150
    watch.says(f"the broker drops those above {2000 if more else 1_000_000:,} bytes, see --max-reading)")
    raw.close()
    assert watch.stop() == 0


def test_a_sensor_that_dies_and_comes_back_shows_in_the_status(
    broker, clients, windowed, tmp_path, watches
) -> None:
    publisher, collector = clients
    status = Client(broker, "status", f"{RESULTS}/status")
    watch = watches(broker, windowed, tmp_path / "state")
    watch.says("connected")

    def has(*words: bytes) -> None:
        wait_for(lambda: [m.payload for m in status.messages] == list(words), f"{words}")

    rows = readings(40)
    for row in rows[:10]:
        publisher.publish(row)
    has(b"online")
    for row in rows[10:30]:
        publisher.publish([row[0], None])
    has(b"online", b"stale")
    assert all(message.retain is False for message in status.messages)
    for row in rows[30:]:
        publisher.publish(row)
    has(b"online", b"stale", b"online")
    wait_for(lambda: len(collector.messages) == 8 + 8, "results")
    watch.says("stale: no reading came for 5 s")
    has(b"online", b"stale", b"online", b"stale")
    broker.stop()
    watch.says("no connection")
    broker.start()
    watch.says("connected", 2)
    late = Client(broker, "late", f"{RESULTS}/status")
    wait_for(lambda: [m.payload for m in late.messages][-1:] == [b"stale"], "the status as it is")
    publisher.publish(rows[0])
    wait_for(lambda: [m.payload for m in late.messages][-1:] == [b"online"], "the status as it is")
    assert watch.stop() == 0
    wait_for(lambda: [m.payload for m in late.messages][-1:] == [b"offline"], "the end")
    late.close()
    status.close()
    said = [line.partition("watch: ")[2] for line in watch.log.read_text().splitlines() if "stale" in line]
    assert said == [
        "stale: none of the last 10 readings was full: channel 2 is missing",
        "stale no more: full readings come again; channel 2 is back",
        "stale: no reading came for 5 s (the broker drops those above 1,000,000 bytes, see --max-reading)",
        "stale no more: full readings come again",
    ]


def test_home_assistant_learns_how_long_a_result_counts(broker, clients, windowed, tmp_path, watches) -> None:
    publisher, _ = clients
    finder = Client(broker, "ha", "homeassistant/#")
    watch = watches(broker, windowed, tmp_path / "state", "--home-assistant")
    watch.says("connected")

    def expiries() -> list[set[int]]:
        return [
            {entry["expire_after"] for entry in config["components"].values()} for config in finder.results
        ]

    wait_for(lambda: expiries() == [{86_400}], "the discovery")
    template = finder.results[0]["availability_template"]
    assert template == "{{ 'online' if value == 'online' else 'offline' }}"
    for i, row in enumerate(readings(10)):
        publisher.publish({"values": row, "time": 1_700_000_000 + 60 * i})
    wait_for(lambda: len(finder.messages) == 2, "another discovery")
    assert expiries() == [{86_400}, {10 * 60 + 4 * 60}]
    finder.close()
    assert watch.stop() == 0


@pytest.mark.slow
def test_one_watch_survives_all_of_it_with_a_line_each(broker, clients, bundle, tmp_path, watches) -> None:
    publisher, collector = clients
    with bundle.manifest() as manifest:
        manifest["input"].update(shape=[3, 2], features=["heat", "load"], window=3, stride=1)
    watch = watches(broker, bundle.path, tmp_path / "state", "--swap-seconds", 4)
    watch.says("connected")
    random = np.random.default_rng(5)
    sent = 0
    lines = ["connected"]

    def said() -> list[str]:
        return [line.partition("watch: ")[2] for line in watch.log.read_text().splitlines()]

    def go_on(count: int = 6, **odd: object) -> None:
        """Send readings, one of them odd; most of them give results."""
        nonlocal sent
        before = len(collector.messages)
        for i in range(count):
            heat, load = random.normal(50, 10, 2).round(3).tolist()
            reading = {"heat": heat, "load": load, "seq": sent, "time": 1_700_000_000 + sent}
            publisher.publish({**reading, **(odd if i == 2 else {})})
            sent += 1
        # the first reading after one that was left out begins a window
        wait_for(lambda: len(collector.messages) >= before + count - 5, "results")
        wait_for(lambda: publisher.published == publisher.handed == sent, "the publisher")

    def has(text: str) -> None:
        lines.append(text)
        wait_for(lambda: len(said()) == len(lines) and said()[-1].startswith(text), f"{text} in {said()}")

    go_on()
    spoilt = {
        "endless": (lambda bad: bad.never_end(), "could not be verified within 4 s"),
        "greedy": (lambda bad: bad.burden(side=1_000_000), "scorer.float32.onnx: "),
        "fifo": (
            lambda bad: [(bad.path / "manifest.json").unlink(), os.mkfifo(bad.path / "manifest.json")],
            "manifest.json cannot be read (it is no regular file)",
        ),
        "garbage": (lambda bad: bad.write("manifest.json", b"\x1b[2J" * 999), "manifest.json is not valid"),
    }
    for name, (spoil, why) in spoilt.items():
        bad = type(bundle)(shutil.copytree(bundle.path, tmp_path / f"{name}.edgeae"))
        spoil(bad)
        bundle.path.rename(tmp_path / "good")
        bad.path.rename(bundle.path)
        has("refused, the old one goes on: ")
        assert why in said()[-1]
        bundle.path.rename(tmp_path / name)
        (tmp_path / "good").rename(bundle.path)
        go_on()
        time.sleep(2.5)  # the good one is seen, verified and the same as before
    raw = Raw(broker)
    for number, payload in enumerate(COSTLY.values()):
        raw.send(payload)
        if number == 0:
            has("a reading is left out: is not JSON")
        go_on()
    raw.send(b"[%s]" % (b" " * 60_000_000))
    raw.close()
    go_on(seq=2**62)
    go_on(seq=-1)
    go_on(time="9999-01-01")
    assert [line for line in said() if "stale" in line] == []
    wait_for(lambda: any("is taken without its time, 9999" in line for line in said()), "a line")
    go_on(time=0)
    go_on(seq=float("nan"))
    go_on(load=None)
    go_on(load="unavailable")
    assert peak(watch) < 300
    assert watch.stop() == 0
    assert all(line.isprintable() and len(line) < 600 for line in said())
    assert [r["sequence"] for r in collector.results] == list(range(1, len(collector.messages) + 1))


@pytest.mark.slow
def test_a_flood_of_costly_messages_without_receipts_does_not_fill_the_memory(
    broker, clients, windowed, tmp_path, watches
) -> None:
    _, collector = clients
    watch = watches(broker, windowed, tmp_path / "state")
    watch.says("connected")
    raw = Raw(broker)
    flood = COSTLY["many lists"]
    for _ in range(300):
        raw.client.publish(TOPIC, flood, qos=0)
    for row in readings(3):
        raw.send(json.dumps(row).encode())
    wait_for(lambda: len(collector.messages) == 1, "a result", 120)
    raw.close()
    assert peak(watch) < 220
    assert watch.stop() == 0
