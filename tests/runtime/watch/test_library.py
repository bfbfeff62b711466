"""`watch.run` as a library: ends of one's own, records of `logging`, and nothing left behind."""

import hashlib
import json
import logging
import os
import re
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from watching import Rows, Watching, one_by_one, said, wait_for

from edgeae_runtime import DataError, SettingsError, watch
from edgeae_runtime.cli.watch import watch as command
from edgeae_runtime.errors import Argument
from edgeae_runtime.settings import read_settings, settings
from edgeae_runtime.watch import Delivered, Post, WatchConfig, log, service
from edgeae_runtime.watch.config import check_watch
from edgeae_runtime.watch.log import LINE_LENGTH, Line, RateFilter


class Shelf(watch.Sink):
    """Keeps results; each third one it takes with a delay."""

    ready = True
    ahead = 10

    def __init__(self) -> None:
        self.results: list[bytes] = []
        self.late: list[int] = []

    def start(self, post: Post) -> None:
        self.post = post

    def publish(self, result: bytes) -> int:
        self.results.append(result)
        ticket = len(self.results)
        if ticket % 3:
            self.post(Delivered((ticket,)))
        else:
            self.late.append(ticket)
        return ticket

    def flush(self) -> None:
        self.post(Delivered(tuple(self.late)))
        self.late.clear()


def test_a_source_and_a_sink_of_ones_own(tiny, own, rows, tmp_path) -> None:
    shelf = Shelf()
    config = {"state": tmp_path / "state", "sink": shelf}
    running = Watching(tiny, **config)
    running.rows.feed(rows[:50])
    wait_for(lambda: len(shelf.results) == 50, "results")
    running.end()
    running = Watching(tiny, **config)
    running.rows.feed(rows[50:60])
    wait_for(lambda: len(shelf.results) >= 60, "results")
    running.end()
    found = {result["sequence"]: result["error"] for result in map(json.loads, shelf.results)}
    assert list(found) == list(range(1, 61)) and len(shelf.results) == 60
    assert list(found.values()) == one_by_one(own, rows[:60]).astype(float).tolist()


@pytest.mark.parametrize(
    ("ends", "given", "told"),
    [
        (
            {"source": Rows()},
            {"follow": Path("x")},
            "source and follow are two sources of readings; give",
        ),
        ({"sink": Shelf()}, {"post": "http://x/"}, "sink and post are two places for results; give one"),
        ({}, {"alarm_needed": 0}, "alarm_needed: expected 1 or more, found 0"),
        ({}, {"follow": "x.csv"}, "follow: expected a path, found 'x.csv'"),
        ({}, {"topic": "a"}, "topic needs mqtt, the broker"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_opened(ends, given, told) -> None:
    with pytest.raises(SettingsError) as caught:
        watch.run("nothing.edgeae", WatchConfig(**given), **ends)
    assert str(caught.value).startswith(told)


class Broken(watch.Source):
    def run(self, post: Post, since: object) -> None:
        raise ValueError("a bug")

    def stop(self) -> None:
        pass


def test_a_source_that_fails_ends_the_watch_and_nothing_is_left_behind(tiny, tmp_path) -> None:
    before = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), threading.excepthook]
    config = WatchConfig(state=tmp_path / "state", metrics_port=0)
    with pytest.raises(watch.service.EdgeaeError, match=r"^the source has failed: ValueError: a bug$"):
        watch.run(tiny, config, source=Broken(), sink=Shelf())
    assert before == [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), threading.excepthook]
    assert logging.getLogger(f"{service.LOGGER_NAME}.tiny").filters == []
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("edgeae-")], "the threads")


def test_a_library_gets_records_with_levels_that_speak_of_arguments(tiny, rows, tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO, service.LOGGER_NAME)
    running = Watching(tiny, state=tmp_path / "state", sink=Shelf(), max_reading=1000, stale_after=0.3)
    running.rows.feed(rows[:1])
    running.rows.queue.put([b'"none"\n\x1b[2J'])
    wait_for(lambda: "stale" in caplog.text, "a record")
    running.rows.feed(rows[:1])
    wait_for(lambda: "stale no more" in caplog.text, "a record")
    running.end()
    found = [(record.name, record.levelname, record.getMessage()) for record in caplog.records[1:]]
    name = "edgeae_runtime.watch.tiny"
    text = "a reading is left out: is not JSON (Extra data: line 2 column 1 (char 7))"
    assert found[0] == (name, "WARNING", text)
    assert found[1][:2] == (name, "WARNING") and found[1][2].startswith("stale: no ")
    assert (name, "INFO", "stale no more: full readings come again") in found


def test_one_record_of_a_kind_passes_at_a_time_and_counts_the_others(monkeypatch, caplog) -> None:
    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(log, "time", clock)
    logger = logging.getLogger("edgeae_runtime.watch.rate")
    rate = RateFilter(logger)
    for number in range(5):
        logger.warning(Line(f"a {number}"), extra={"kind": "a"})
        logger.warning(Line(f"b {number}"), extra={"kind": "b"})
        logger.warning(Line("plain"))
    assert said(caplog) == ["a 0", "b 0", *["plain"] * 5]
    caplog.clear()
    clock.now += 9.9
    rate.flush()
    assert said(caplog) == []
    clock.now += 0.2
    logger.warning(Line("a 5"), extra={"kind": "a"})
    rate.flush()
    rate.flush(now=True)
    assert said(caplog) == ["a 5 (5 such since the last line)", "b 4 (4 such since the last line)"]
    logger.warning(Line("c"), extra={"kind": "c"})
    logger.warning(Line("c" * 9999), extra={"kind": "c"})
    logger.warning(Line("c" * 9999), extra={"kind": "c"})
    rate.close()
    assert said(caplog)[2:] == ["c", "c" * LINE_LENGTH + "… (2 such since the last line)"]
    logger.warning(Line("c"), extra={"kind": "c"})
    assert said(caplog)[4:] == ["c"]


def test_a_line_is_one_line_and_speaks_as_it_is_asked_to() -> None:
    line = Line("a\nb\x1b[2J: ", DataError("leave out ", Argument("max_reading")), "\u202e")
    assert str(line) == "a b [2J: leave out max_reading "
    assert line.spelled({"max_reading": "--max-reading"}) == "a b [2J: leave out --max-reading "


# --- the settings --------------------------------------------------------------------------------


def test_the_options_of_the_command_are_the_settings() -> None:
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}
    assert options.keys() == {*WatchConfig.__struct_fields__}
    for setting in settings(WatchConfig):
        option = options[setting.name]
        assert option.help.startswith(setting.help)
        assert option.default == setting.default or setting.default is None
    check_watch(WatchConfig())


def test_settings_can_be_read_from_a_file(tmp_path) -> None:
    path = tmp_path / "watch.toml"
    path.write_text('[train]\nfollow = "pump.csv"\nalarm_needed = 3\npost = "https://x/"\nstale_after = 5\n')
    found = WatchConfig(**read_settings(path, WatchConfig, "train"))
    assert found == WatchConfig(follow=Path("pump.csv"), alarm_needed=3, post="https://x/", stale_after=5.0)
    path.write_text("[train]\nfollow = 3\n")
    with pytest.raises(
        SettingsError, match="follow: expected a path, found 3; correct it, or delete the line"
    ):
        read_settings(path, WatchConfig, "train")


@pytest.mark.parametrize(
    "given",
    [
        {"follow": Path("pump.csv")},
        {"mqtt": "mqtt://host", "topic": "a", "publish": "b"},
        {"mqtt": "mqtt://host", "publish": "b", "follow": Path("/var/log/pump.csv")},
    ],
)
def test_the_default_folder_of_the_state_is_that_of_version_0_1_0(monkeypatch, given) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    options = {"mqtt": None, "topic": None, "publish": None, "follow": None, **given}
    what = repr([os.path.abspath("a/pump.edgeae"), options["follow"] and os.path.abspath(options["follow"])])
    what += repr([options[name] for name in ("mqtt", "topic", "publish")])
    expected = Path("/state/edgeae", f"pump-{hashlib.sha256(what.encode()).hexdigest()[:8]}")
    config = WatchConfig(**given)
    assert service._state_folder(Path("a/pump.edgeae"), config) == expected
    posting = msgspec.structs.replace(config, publish=None, post="https://x/")
    assert service._state_folder(Path("a/pump.edgeae"), posting) != expected


def test_the_example_of_the_documents_runs(tiny, rows, own, tmp_path, monkeypatch, capsys) -> None:
    page = (Path(__file__).parents[3] / "docs" / "watch.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny, "pump.edgeae")
    high = rows[own.detect(rows).anomaly][:3]
    assert len(high) == 3
    Path("pump.jsonl").write_text("".join(f"{json.dumps(row.tolist())}\n" for row in high))
    names: dict[str, Any] = {}
    exec(example, names)
    printed: list[str] = []

    def is_printed() -> bool:
        printed.append(capsys.readouterr().out)
        return "\n" in "".join(printed)

    wait_for(is_printed, "the alarm")
    names["stop"].set()
    wait_for(lambda: not [t for t in threading.enumerate() if t._target is watch.run], "the end")
    (result,) = map(json.loads, "".join(printed).splitlines())
    assert (result["sequence"], result["alarm"]) == (3, True)
