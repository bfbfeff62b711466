"""What a broker and Home Assistant are let know of a watch."""

import json
import re

from watching import RESULTS, Client, readings, wait_for

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
