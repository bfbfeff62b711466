"""Messages that are too large, or cost too much in other ways."""

import json
import os
import shutil
import time

import numpy as np
import pytest
from watching import TOPIC, Raw, assert_each_window_once, metrics, peak, readings, wait_for

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
