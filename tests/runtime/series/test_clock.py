"""Times and numbers that are wrong: what one of them costs, and what every n-th does."""

import json
import logging
import shutil
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeae_runtime
from edgeae_runtime.series.stream_clock import (
    LATE,
    MOST_RANGES,
    MOST_REPEATS,
    RESTART_GAP,
    Numbers,
    StreamClock,
)
from edgeae_runtime.watch.config import WatchConfig
from edgeae_runtime.watch.intake import Intake
from edgeae_runtime.watch.log import RateFilter
from edgeae_runtime.watch.metrics import Metrics

COUNT = 12_000
LOST = 10
START = 1_700_000_000
YEAR_9999 = "9999-01-01T00:00:00"
NUMBERS = {
    "2^62": lambda i: 2**62,
    "2^62 and on": lambda i: 2**62 + i,
    "-2^62": lambda i: -(2**62),
    "-1": lambda i: -1,
    "negative": lambda i: -i,
    "at random": lambda i: int(np.random.default_rng(i).integers(-(2**62), 2**62)),
    "some ahead": lambda i: i + 500,
    "a day ahead": lambda i: i + 86_400,
}
TIMES = {
    "9999": lambda i: YEAR_9999,
    "9999 and on": lambda i: f"9999-01-0{1 + i // 86_400}T00:00:00.{i:06}",
    "1": lambda i: "0001-01-01T00:00:00",
    "1970": lambda i: 0,
    "1970 and on": lambda i: i,
    "2100 at random": lambda i: 4e9 + float(np.random.default_rng(i).integers(10**9)),
    "an hour ahead": lambda i: START + i + 3600,
    "a month ahead": lambda i: START + i + 30 * 86_400,
}


@pytest.fixture(scope="module")
def row(tiny: Path) -> edgeae_runtime.Autoencoder:
    return edgeae_runtime.load(tiny, engine="onnxruntime", precision="float32")


@pytest.fixture(scope="module")
def window(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> edgeae_runtime.Autoencoder:
    """Windows of six readings of one channel."""
    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("window") / "pump.edgeae")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["input"].update(shape=[6, 1], features=None, window=6, stride=1)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "manifest.sha256").unlink()  # an older bundle has none
    return edgeae_runtime.load(folder, engine="onnxruntime", precision="float32")


class Counted:
    """An intake, its counters and its log."""

    def __init__(self, ae: edgeae_runtime.Autoencoder) -> None:
        self.log: list[str] = []
        self.metrics = Metrics()
        values = ae.manifest.input.size // (ae.manifest.input.window or 1)
        self.values = ["60", "101000", "0.005", "-99.5", "3.5", "2850"][:values]
        log = logging.Logger("a watch")
        self.rate = RateFilter(log)
        handler = logging.Handler()
        handler.emit = lambda record: self.log.append(record.getMessage())  # type: ignore[method-assign]
        log.addHandler(handler)
        self.intake = Intake(ae, 0.5, WatchConfig(), metrics=self.metrics, log=log)

    def take(self, *, seq: Any = None, time: Any = None) -> None:
        more = (f',"seq":{json.dumps(seq)}' if seq is not None else "") + (
            f',"time":{json.dumps(time)}' if time is not None else ""
        )
        self.intake.take_message(
            b'{"values":[%s]%s}' % (",".join(self.values).encode(), more.encode()), 0, False
        )

    def __getitem__(self, name: str) -> float:
        self.intake.count()
        return getattr(self.metrics, f"{name}_total")


# --- one reading, or every n-th ------------------------------------------------------------------


@pytest.mark.parametrize(("odd", "every"), [("2^62", COUNT // 2), *((name, 50) for name in NUMBERS)])
def test_numbers_that_are_wrong_cost_no_result(row, odd, every) -> None:
    counted = Counted(row)
    for i in range(COUNT):
        counted.take(seq=NUMBERS[odd](i) if i > 9 and i % every == every - 1 else i)
    assert len(counted.intake.results) >= COUNT - LOST
    assert len(counted.intake.results) + counted["repeated"] == COUNT


@pytest.mark.parametrize(("odd", "every"), [("9999", COUNT // 2), *((name, 50) for name in TIMES)])
def test_times_that_are_wrong_cost_no_result(row, odd, every) -> None:
    counted = Counted(row)
    for i in range(COUNT):
        counted.take(time=TIMES[odd](i) if i > 9 and i % every == every - 1 else START + i)
    assert len(counted.intake.results) >= COUNT - LOST
    assert len(counted.intake.results) + counted["late"] == COUNT
    assert any("time" in line for line in counted.log) or "ahead" in odd


@pytest.mark.parametrize("every", [2, 3, 5, 6, 7, 20, 50])
def test_windows_reach_over_a_reading_whose_time_or_number_is_wrong(window, every) -> None:
    for name, bad in (("seq", 2**62), ("seq", -1), ("seq", -(2**62)), ("time", YEAR_9999), ("time", 0)):
        counted = Counted(window)
        for i in range(300):
            good = {"seq": i, "time": START + i}[name]
            counted.take(**{name: good if i % every != every - 1 else bad})
        assert len(counted.intake.results) == 300 - 5
        assert counted["interruptions"] == 0


def test_windows_go_on_where_a_gap_proves_none(window) -> None:
    stream = window.stream()
    found = []
    for i in range(300):
        time = datetime(2026, 1, 1) + timedelta(seconds=i, days=i % 50 == 49)
        result = stream.push([float(i)], time)
        found += [] if result is None else [(i, result.error)]
    whole = window.stream()
    expected = [(i, r.error) for i in range(300) if (r := whole.push([float(i)])) is not None]
    assert found == [(i, error) for i, error in expected if i % 50 != 49]
    assert stream.interruptions == 1  # whether the last was a gap nobody knows yet


@pytest.mark.parametrize("odd", NUMBERS)
def test_every_nth_number_may_be_wrong(odd) -> None:
    for every in range(2, 51):
        wrong = {i: NUMBERS[odd](i) for i in range(10, 1000) if i % every == every - 1}
        numbers = Numbers()
        taken = [numbers.take(wrong.get(i, i), is_later=False) for i in range(1000)]
        assert taken.count(None) <= LOST, every
        assert len(numbers.ranges) <= MOST_RANGES


@pytest.mark.parametrize("odd", TIMES)
def test_every_nth_time_may_be_wrong(odd) -> None:
    for every in range(2, 51):
        wrong = {i: TIMES[odd](i) for i in range(10, 1000) if i % every == every - 1}
        clock = StreamClock()
        values = [wrong.get(i, START + i) for i in range(1000)]
        times = [
            datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
            for value in values
        ]
        assert [clock.take(time) for time in times].count(LATE) <= LOST, every


# --- what is true after all ----------------------------------------------------------------------


@pytest.mark.parametrize(("first", "then"), [(5000, 0), (5000, 1), (2**62, 1), (2**62, 10**6), (7, -(9**6))])
def test_a_counter_that_is_restarted_is_followed(row, first, then) -> None:
    counted = Counted(row)
    for i in range(first - 1500, first):
        counted.take(seq=i)
    for _ in range(2):  # and then again
        for i in range(then, then + 900):
            counted.take(seq=i)
    assert (len(counted.intake.results), counted["repeated"]) == (1500 + 900, 900)


def test_a_counter_that_is_restarted_over_numbers_that_were_there(row) -> None:
    counted = Counted(row)
    for i in [*range(1500), *range(1200)]:
        counted.take(seq=i)
    assert len(counted.intake.results) == 2700


@pytest.mark.parametrize("first", [0, 4e9, 2.5e11 / 1000])
def test_a_clock_that_is_set_is_followed_from_the_second_reading_on(window, first) -> None:
    counted = Counted(window)
    for i in range(100):
        counted.take(time=first + i)
    for i in range(100):
        counted.take(time=START + i)
    counted.take(time=START + 99)
    assert len(counted.intake.results) == 95 + 1 + 95  # the window that the first doubtful reading completes
    assert (counted["interruptions"], counted["doubted"], counted["late"]) == (1, 1, 1)


@pytest.mark.parametrize("first", [{"seq": 2**62}, {"time": YEAR_9999}, {"time": 0}, {"seq": -1}])
def test_the_very_first_reading_may_be_the_wrong_one(row, first) -> None:
    counted = Counted(row)
    counted.take(**first)
    for i in range(1000):
        counted.take(**({"seq": i} if "seq" in first else {"time": START + i}))
    assert len(counted.intake.results) == 1001


def test_two_clocks_by_turns_are_both_heard(row) -> None:
    counted = Counted(row)
    for i in range(1000):
        counted.take(time=START + i + 10**9 * (i % 2))
    assert len(counted.intake.results) == 1000


def test_a_result_says_no_time_that_is_not_believed(row) -> None:
    counted = Counted(row)
    for time in (START, START + 1, YEAR_9999, START + 3):
        counted.take(time=time)
    times = [json.loads(result)["time"] for result in counted.intake.results]
    assert times == ["2023-11-14T22:13:20", "2023-11-14T22:13:21", None, "2023-11-14T22:13:23"]
    assert counted.log == [
        "a reading is taken without its time, 9999-01-01 00:00:00, so far from the last one, "
        "2023-11-14 22:13:21, that it is believed only if the next agrees"
    ]


def test_a_pi_that_begins_in_1970_is_heard_at_once_after_a_connection(row) -> None:
    counted = Counted(row)
    counted.take(time=START)
    counted.intake.connected = monotonic()
    for i in range(30):
        counted.take(time=i)
    assert len(counted.intake.results) == 31


@pytest.mark.parametrize("end", [datetime.max, datetime.min])
def test_the_ends_of_the_calendar_are_times_too(window, end) -> None:
    stream = window.stream()
    for hours in (-12, 12):
        stream.push([1.0], end.replace(tzinfo=timezone(timedelta(hours=hours))))
        stream.push([1.0], datetime(2026, 1, 1, tzinfo=UTC))
    assert stream.late <= 2


# --- what is dropped is told and counted ---------------------------------------------------------


def test_readings_that_come_again_are_told(row) -> None:
    counted = Counted(row)
    for seq in (1, 2, 3, 2, 3, 4):
        counted.take(seq=seq)
    assert (len(counted.intake.results), counted["repeated"]) == (4, 2)
    counted.rate.flush(now=True)
    assert counted.log == [
        "a reading is left out: it came before (seq 2)",
        "a reading is left out: it came before (seq 3)",
    ]


def test_readings_of_one_second_are_told(row) -> None:
    counted = Counted(row)
    for i in range(100):
        counted.take(time=START + i // 4)
    assert (len(counted.intake.results), counted["late"]) == (25, 75)
    counted.rate.flush(now=True)
    (first, rest) = counted.log
    assert first == (
        "a reading is left out: its time, 2023-11-14 22:13:20, is not after the last one, "
        "2023-11-14 22:13:20; set the sender's clock, or send finer times or none"
    )
    assert rest.endswith("(74 such since the last line)")


@pytest.mark.parametrize("seq", [True, False, float("nan"), float("inf"), "x", [], {}, 1.5, 2**63])
def test_a_number_that_is_none_is_told_and_costs_its_reading(row, seq) -> None:
    counted = Counted(row)
    for i in range(100):
        counted.take(seq=seq if i == 50 else i)
    assert (len(counted.intake.results), counted["rejected"]) == (99, 1)
    assert counted.log[0].startswith("a reading is left out: seq is ")


@pytest.mark.parametrize("seq", [None, ""])
def test_a_reading_whose_number_is_left_empty_counts_as_one_without(row, seq) -> None:
    """An empty cell of a CSV line, and a null of a sender that has none yet."""
    counted = Counted(row)
    for i in range(100):
        counted.take(seq=seq if i == 50 else i)
    assert (len(counted.intake.results), counted["rejected"]) == (100, 0)


@pytest.mark.parametrize("time", [True, float("nan"), float("inf"), "x", [], {}, 1e300, "99999-01-01"])
def test_a_time_that_is_none_is_told_and_costs_its_reading(row, time) -> None:
    counted = Counted(row)
    for i in range(100):
        counted.take(time=time if i == 50 else START + i)
    assert (len(counted.intake.results), counted["rejected"]) == (99, 1)
    assert "is not a time" in counted.log[0]


# --- numbers -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(2, 9), st.integers(1, 99)), max_size=60), st.integers(2, 2**62))
def test_readings_sent_again_are_known_however_many_were_lost_between(stretches, first) -> None:
    sent = []
    for there, lost in stretches:
        sent += range(first, first + there)
        first += there + lost
    numbers = Numbers()
    missing = [numbers.take(number, is_later=False) for number in sent]
    assert missing[1:] == [after - before - 1 for before, after in pairwise(sent)]
    assert [numbers.take(number, is_later=False) for number in sent] == [None] * len(sent)


def test_a_long_jump_counts_as_a_loss_once_the_next_agrees() -> None:
    numbers = Numbers()
    assert [
        numbers.take(n, is_later=False)
        for n in (1, 2, 2 + RESTART_GAP + 2, 2 + RESTART_GAP + 3, 2 + RESTART_GAP + 4)
    ] == [
        0,
        0,
        0,
        1,
        0,
    ]


def test_a_number_below_that_repeats_for_long_is_believed() -> None:
    numbers = Numbers()
    for number in range(500):
        numbers.take(number, is_later=False)
    said = [numbers.take(7, is_later=False) for _ in range(MOST_REPEATS + 1)]
    assert said == [None] * MOST_REPEATS + [0]
