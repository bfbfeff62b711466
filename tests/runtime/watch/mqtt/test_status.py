"""What a broker and Home Assistant are let know of a watch."""

import json
import re
import socket
import subprocess
import threading
from contextlib import suppress

from watching import EDGEAE, EXACT, RESULTS, TOPIC, Client, Mosquitto, readings, wait_for

import edgeae_runtime


def test_the_broker_says_offline_for_a_watch_that_was_killed(broker, windowed, tmp_path, watches) -> None:
    watch = watches(broker, windowed, tmp_path / "state", "--home-assistant")
    watch.says("connected")
    status = Client(broker, "status", f"{RESULTS}/status")
    wait_for(lambda: [m.payload for m in status.messages] == [b"online"], "online")
    assert status.messages[0].retain
    watch.kill()
    wait_for(lambda: [m.payload for m in status.messages][-1] == b"offline", "the will")
    status.close()


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


# --- the largest message -------------------------------------------------------------------------


def test_whoever_sees_the_status_sees_how_large_a_message_may_be(broker, windowed, tmp_path, watches) -> None:
    watch = watches(broker, windowed, tmp_path / "state", "--max-reading", 2000)
    watch.says("connected; the broker drops messages above 2,000 bytes, see --max-reading\n")
    finder = Client(broker, "limits", f"{RESULTS}/#")
    wait_for(lambda: len(finder.messages) == 2, "both topics")
    found = {message.topic: (message.payload, message.retain) for message in finder.messages}
    limits = (b'{"max_message_bytes":2000}', True)
    assert found == {f"{RESULTS}/status": (b"online", True), f"{RESULTS}/limits": limits}
    finder.close()
    assert watch.stop() == 0


def test_there_is_no_limit_where_no_readings_come_from_the_broker(broker, windowed, tmp_path) -> None:
    finder = Client(broker, "limits", f"{RESULTS}/#")
    source = tmp_path / "pump.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in readings(5)))
    with source.open() as stdin:
        words = [EDGEAE, "watch", windowed, "--mqtt", broker.url, "--publish", RESULTS, *EXACT]
        words += ["--state", tmp_path / "state"]
        done = subprocess.run(words, stdin=stdin, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "edgeae watch: connected\n")
    wait_for(lambda: len(finder.messages) == 5, "status, results, status")
    assert {message.topic for message in finder.messages} == {RESULTS, f"{RESULTS}/status"}
    finder.close()


def test_a_watch_without_the_right_to_say_its_limits_works(tmp_path, windowed, watches) -> None:
    rules = tmp_path / "rules"
    allowed = (f"topic readwrite {TOPIC}", f"topic readwrite {RESULTS}", f"topic readwrite {RESULTS}/status")
    rules.write_text("\n".join([*allowed, "topic read #", ""]))
    strict = Mosquitto(tmp_path / "strict", "allow_anonymous true", f"acl_file {rules}")
    strict.start()
    try:
        source, collector = Client(strict, "source"), Client(strict, "collector", f"{RESULTS}/#")
        watch = watches(strict, windowed, tmp_path / "state")
        watch.says("connected")
        for row in readings(6):
            source.publish(row)
        wait_for(lambda: len([m for m in collector.messages if m.topic == RESULTS]) == 4, "results")
        assert {message.topic for message in collector.messages} == {RESULTS, f"{RESULTS}/status"}
        assert watch.stop() == 0
        # Mosquitto 2.0.11 sometimes ends the connection over it, once
        assert watch.log.read_text().count("no connection") <= 1
        source.close()
        collector.close()
    finally:
        strict.stop()


class Severe:
    """Stands before a broker, and ends each connection on which something is published that it dislikes."""

    def __init__(self, broker: Mosquitto, disliked: bytes) -> None:
        self.broker, self.disliked, self.ended = broker, disliked, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self.listener.getsockname()[1]}"
        self.open: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                inner, _ = self.listener.accept()
                outer = socket.create_connection(("127.0.0.1", self.broker.port))
                self.open += [inner, outer]
                threading.Thread(target=self.pass_on, args=(inner, outer, True), daemon=True).start()
                threading.Thread(target=self.pass_on, args=(outer, inner, False), daemon=True).start()

    def pass_on(self, source: socket.socket, target: socket.socket, is_judged: bool) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                if is_judged and self.disliked in content:
                    self.ended += 1
                    break
                target.sendall(content)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        for end in (self.listener, *self.open):
            end.close()


def test_a_broker_that_ends_the_connection_over_the_limits_does_so_once(
    broker, clients, windowed, tmp_path, watches
) -> None:
    publisher, collector = clients
    severe = Severe(broker, f"{RESULTS}/limits".encode())
    watch = watches(severe, windowed, tmp_path / "state")
    watch.says("connected", 2)
    for row in readings(6):
        publisher.publish(row)
    wait_for(lambda: len(collector.messages) == 4, "results")
    assert severe.ended == 1
    assert watch.stop() == 0
    assert [line.split()[2] for line in watch.log.read_text().splitlines()] == [
        "connected;",
        "no",
        "connected",
    ]
    severe.close()
