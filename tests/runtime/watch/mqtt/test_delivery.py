"""`edgeae watch` with a real broker: Mosquitto, started, stopped and started again on a free port.

EDGEAE_FULL=1 makes the two long tests as long as a night of bad luck.
"""

import json
import os
import subprocess
import time

import numpy as np
import pytest
from watching import EDGEAE, RESULTS, TOPIC, Client, Mosquitto, assert_each_window_once, readings, wait_for

FULL = bool(os.environ.get("EDGEAE_FULL"))


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
        "edgeae watch: connected; the broker drops messages above 1,000,000 bytes, see --max-reading",
        "edgeae watch: a reading is left out: is neither a list of numbers nor an object but 'nonsense'",
    ]


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
