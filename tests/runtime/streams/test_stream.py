import json
import math
import shutil
import tracemalloc
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packages import in_ci

import edgeae_runtime
from edgeae_runtime import Alarm, DataError, Drift, StreamResult
from edgeae_runtime.bulk.samples import sample_batches
from edgeae_runtime.series.stream_clock import LATE_RUN, LIVE_MEDIAN_STEPS
from edgeae_runtime.streams import stream as streams_stream

MACHINE = Path(__file__).parents[3].parent / "shared" / "data" / "machine_temperature.csv"
START = datetime(2026, 1, 1)
MINUTE = timedelta(minutes=1)
unhurried = settings(deadline=None)


@pytest.fixture(scope="module")
def series(tiny, tmp_path_factory):
    """A function that gives the tiny network as one of windows: (window, 6 / window channels)."""
    made = {}

    def load(window=3, stride=1, engine="onnxruntime", precision="float32") -> edgeae_runtime.Autoencoder:
        key = window, stride, engine, precision
        if key not in made:
            folder = shutil.copytree(tiny, tmp_path_factory.mktemp("series") / "pump.edgeae")
            manifest = json.loads((folder / "manifest.json").read_bytes())
            manifest["input"].update(shape=[window, 6 // window], features=None, window=window, stride=stride)
            (folder / "manifest.json").write_text(json.dumps(manifest))
            (folder / "manifest.sha256").unlink()  # which tells of a change by hand
            made[key] = edgeae_runtime.load(folder, engine=engine, precision=precision)
        return made[key]

    return load


def push_all(stream, samples, times=None) -> list[tuple[int, StreamResult]]:
    """The results, each with the position of the sample that completed its window."""
    pairs = zip(samples, times or [None] * len(samples), strict=True)
    found = ((index, stream.push(sample, time)) for index, (sample, time) in enumerate(pairs))
    return [(index, result) for index, result in found if result is not None]


# --- windows -------------------------------------------------------------------------------------


@unhurried
@given(st.data())
def test_windows_are_those_of_a_naive_loop_over_each_uninterrupted_segment(series, data) -> None:
    window = data.draw(st.sampled_from([1, 2, 3, 6]))
    ae = series(window, data.draw(st.integers(1, 8)))
    channels, stride = 6 // window, ae.manifest.input.stride
    kinds = data.draw(st.lists(st.sampled_from(["", "", "", "", "gap", "nan", "none", "inf"]), max_size=60))
    random = np.random.default_rng(0)
    samples, times, cuts = [], [], [0]
    time = START
    for index, kind in enumerate(kinds):
        sample = random.uniform(0, 100, channels).tolist()
        time += (2 if kind == "gap" else 1) * MINUTE
        if kind == "gap":
            cuts.append(index)
        elif kind:
            sample[-1] = {"nan": math.nan, "none": None, "inf": -math.inf}[kind]
            cuts += [index, index + 1]
        samples.append(sample)
        times.append(time)
    expected = []
    for start, stop in pairwise(sorted({*cuts, len(samples)})):
        if kinds[start] in ("", "gap"):
            for first in range(start, stop - window + 1, stride):
                found = ae.detect(np.float32(samples[first : first + window]))
                expected.append((first + window - 1, float(found.error), found.embedding.tolist()))
    stream = ae.stream(step=60)
    results = push_all(stream, samples, times)
    assert [(i, r.error, r.embedding.tolist()) for i, r in results] == expected
    assert [r.sequence for _, r in results] == list(range(1, len(expected) + 1))
    assert [r.time for _, r in results] == [times[i] for i, _ in results]
    assert stream.missing == sum(kind in ("nan", "none", "inf") for kind in kinds)


@pytest.mark.parametrize("stride", [1, 4, 9])
def test_results_are_those_of_scoring_the_same_readings_from_a_file(
    series, engine, precision, stride, tmp_path
) -> None:
    ae = series(6, stride, engine, precision)
    random = np.random.default_rng(1)
    moments = np.cumsum(random.choice([5, 5, 5, 5, 5, 5, 5, 5, 5, 8, 60], 600))
    moments[:20] = np.arange(20) * 5 - 100  # the usual step shows at once
    times = [START + int(m) * MINUTE for m in moments]
    values = np.round(70 + np.cumsum(random.standard_normal(600)), 4).tolist()
    path = tmp_path / "readings.csv"
    path.write_text("time,value\n" + "".join(f"{t},{v}\n" for t, v in zip(times, values, strict=True)))
    rows, errors = [], []
    for numbers, windows in sample_batches(ae.manifest.input, path):
        rows += [int(n) for n in numbers]
        errors += ae.score(windows).tolist()
    results = push_all(ae.stream(), values, times)
    assert [i + 1 for i, _ in results] == rows
    assert len(rows) > 50 / stride
    np.testing.assert_allclose([r.error for _, r in results], errors, rtol=2e-5)


@pytest.mark.slow
def test_months_of_a_real_machine_with_gaps_give_what_scoring_the_file_gives(series, tmp_path) -> None:
    if not MACHINE.is_file():
        give_up = pytest.fail if in_ci() else pytest.skip
        give_up(f"{MACHINE.name} of the Numenta Anomaly Benchmark is not in {MACHINE.parent}")
    header, *lines = MACHINE.read_text().splitlines()
    random = np.random.default_rng(0)
    lost = {at + i for at in random.integers(200, len(lines), 40) for i in range(random.integers(1, 30))}
    kept, last = [], datetime.min
    for index, line in enumerate(lines):
        time = datetime.fromisoformat(line.partition(",")[0])
        if index not in lost and time > last:  # the file's clock was set back once
            kept.append((time, float(line.partition(",")[2])))
            last = time
    path = tmp_path / "gaps.csv"
    path.write_text("\n".join([header, *(f"{time},{value!r}" for time, value in kept)]))
    ae = series(6, 2)
    rows, errors = [], []
    for numbers, windows in sample_batches(ae.manifest.input, path):
        rows += [int(n) for n in numbers]
        errors += [float(ae.score(window)) for window in windows]
    stream = ae.stream()
    results = push_all(stream, [value for _, value in kept], [time for time, _ in kept])
    assert [index + 1 for index, _ in results] == rows
    assert [r.error for _, r in results] == errors
    assert len(results) > 10_000 and stream.interruptions > 30


def test_a_bundle_without_a_window_gives_a_result_for_each_sample(ae, rows) -> None:
    stream = ae.stream()
    results = [stream.push(row) for row in rows[:50]]
    alone = [ae.detect(row) for row in rows[:50]]
    assert [r.error for r in results] == [float(d.error) for d in alone]
    assert [r.anomaly for r in results] == [bool(d.anomaly) for d in alone]
    assert results[0].threshold == ae.threshold.value
    np.testing.assert_array_equal([r.embedding for r in results], [d.embedding for d in alone])


# --- one sample, in many kinds -------------------------------------------------------------------

READING = [60.0, 101_000.0, 0.005, -99.5, 3.5, 2850.0]


@pytest.mark.parametrize(
    "sample",
    [
        tuple(READING),
        np.array(READING),
        np.array(READING, np.float32),
        np.array(READING).reshape(2, 3),
        [np.float32(value) for value in READING],
        np.array(READING, object),
    ],
    ids=["tuple", "float64", "float32", "two dimensions", "list of numpy numbers", "objects"],
)
@pytest.mark.parametrize("small", [0, streams_stream.LIST_PATH_MAX_VALUES])
def test_lists_tuples_and_arrays_say_the_same(ae, sample, small, monkeypatch) -> None:
    monkeypatch.setattr(streams_stream, "LIST_PATH_MAX_VALUES", small)  # arrays of more values go another way
    assert ae.stream().push(sample).error == ae.stream().push(READING).error


@pytest.mark.parametrize("value", [7.0, 7, np.float32(7), np.array(7), [7.0], np.array([7])])
def test_a_number_is_a_sample_of_one_channel(series, value) -> None:
    ae = series(6)
    stream = ae.stream()
    (result,) = (r for r in [stream.push(value) for _ in range(6)] if r is not None)
    assert result.error == ae.score(np.full((6, 1), 7, np.float32))


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        ([1.0], "^stream: expected 6 values a sample, found 1; give all channels at once$"),
        (1.0, "expected 6 values a sample, found 1"),
        (np.ones(7), "expected 6 values a sample, found 7"),
        (np.ones(99), "expected 6 values a sample, found 99"),
        ([], "expected 6 values a sample, found 0"),
        (["1", "2", "3", "4", "5", "6"], "^stream: a sample holds something that is no number"),
        ([1, 2, 3, 4, 5, "six"], "something that is no number"),
        ([1, 2, 3, 4, 5, 10**400], "something that is no number"),
        ({"temperature": 1}, "^stream: has no column 'pressure', 'vibration', .* found 'temperature'; name"),
        ([[1, 2], [3], 4, 5, 6, 7], "something that is no number"),
    ],
)
def test_what_is_no_sample_is_refused_and_the_stream_goes_on(exact, sample, told) -> None:
    stream = exact.stream()
    with pytest.raises(DataError, match=told):
        stream.push(sample)
    assert stream.push(READING).sequence == 1


# --- missing values ------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [math.nan, math.inf, None, 1e39, -(10**50)])
def test_a_missing_value_interrupts_the_window(series, missing) -> None:
    stream = series(3).stream()
    found = push_all(stream, [[1.0, 2.0]] * 4 + [[1.0, missing]] + [[1.0, 2.0]] * 4)
    assert [index for index, _ in found] == [2, 3, 7, 8]
    assert (stream.missing, stream.interruptions, stream.late) == (1, 1, 0)


@pytest.mark.parametrize("missing", [np.array([1, math.nan]), np.array([1e39, 1]), None, [None, None]])
@pytest.mark.parametrize("small", [0, streams_stream.LIST_PATH_MAX_VALUES])
def test_arrays_and_whole_samples_may_be_missing_too(series, missing, small, monkeypatch) -> None:
    monkeypatch.setattr(streams_stream, "LIST_PATH_MAX_VALUES", small)
    stream = series(3).stream()
    assert len(push_all(stream, [[1.0, 2.0]] * 2 + [missing, missing] + [[1.0, 2.0]] * 2)) == 0
    assert (stream.missing, stream.interruptions) == (2, 1)


def test_held_values_are_the_last_known_ones_channel_by_channel(series) -> None:
    ae = series(3)
    known = [[1.0, 50.0], [2.0, 51.0], [3.0, None], [None, None], [5.0, 54.0], [6.0, None]]
    held = [[1, 50], [2, 51], [3, 51], [3, 51], [5, 54], [6, 54]]
    stream = ae.stream(hold=2)
    expected = [float(ae.detect(np.float32(held[i - 2 : i + 1])).error) for i in range(2, 6)]
    assert [r.error for _, r in push_all(stream, known)] == expected
    assert (stream.missing, stream.interruptions) == (3, 0)


def test_more_missing_values_than_may_be_held_interrupt(series) -> None:
    stream = series(3).stream(hold=2)
    samples = [[1.0, 2.0]] * 3 + [[1.0, None]] * 3 + [[1.0, 2.0]] * 3 + [[None, 2.0]] + [[1.0, 2.0]]
    assert [i for i, _ in push_all(stream, samples)] == [2, 3, 4, 8, 9, 10]
    assert stream.interruptions == 1


def test_nothing_is_held_across_a_gap_or_at_the_start(series) -> None:
    stream = series(1).stream(hold=5, step=60)
    times = [START + minutes * MINUTE for minutes in (0, 1, 2, 9, 10)]
    found = push_all(stream, [None, READING, [None] * 6, None, READING], times)
    assert [index for index, _ in found] == [1, 2, 4]


def test_readings_beyond_all_measure_are_an_anomaly_not_an_error(exact) -> None:
    result = exact.stream().push([3e38] * 6)  # whose sum is not finite as float32
    assert result.error == math.inf and result.anomaly and result.alarm
    assert result.embedding.shape == (2,) and np.isnan(result.embedding).all()


# --- times ---------------------------------------------------------------------------------------


def timed(series, minutes, **settings):
    stream = series(3).stream(**settings)
    found = push_all(stream, [[1.0, 2.0]] * len(minutes), [START + m * MINUTE for m in minutes])
    return [index for index, _ in found], stream


def test_a_step_of_more_than_one_and_a_half_times_the_usual_one_interrupts(series) -> None:
    found, stream = timed(series, [0, 1, 2, 3, 4.5, 6.01, 7, 8, 9])
    assert found == [2, 3, 4, 7, 8]
    assert stream.interruptions == 1


def test_the_usual_step_may_be_given(series) -> None:
    assert timed(series, [0, 9, 18, 27, 36])[0] == [2, 3, 4]
    assert timed(series, [0, 9, 18, 27, 36], step=60)[0] == []


def test_another_rate_is_the_usual_one_after_a_while(series) -> None:
    minutes = [*range(200), *range(201, 801, 2)]
    found, stream = timed(series, minutes)
    assert found == [*range(2, 200), *range(200 + LIVE_MEDIAN_STEPS + 1, 500)]
    assert stream.interruptions == LIVE_MEDIAN_STEPS
    assert timed(series, minutes, step=60)[0] == [*range(2, 200)]


def test_late_samples_are_dropped_and_counted(series) -> None:
    found, stream = timed(series, [0, 1, 2, 2, 1, 3, 0, 4], step=60)
    assert found == [2, 5, 7]
    assert (stream.late, stream.interruptions) == (3, 0)


def test_a_clock_that_was_set_back_for_good_is_followed_after_a_while(series) -> None:
    minutes = [*range(1000, 1010), *range(LATE_RUN + 5)]
    found, stream = timed(series, minutes, step=60)
    assert found == [*range(2, 10), *range(9 + LATE_RUN + 2, len(minutes))]
    assert (stream.late, stream.interruptions) == (LATE_RUN - 1, 1)


def test_late_samples_among_others_or_in_disorder_do_not_set_the_clock_back(series) -> None:
    late = [m for m in range(LATE_RUN - 1) for _ in range(2)]  # each twice: not in order
    _, stream = timed(series, [1000, *late, 1001, *range(LATE_RUN - 1), 1002], step=60)
    assert stream.late == 3 * (LATE_RUN - 1)
    assert stream.interruptions == 0


def test_a_changing_offset_is_no_gap(series) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    hour = datetime(2026, 10, 24, 22, tzinfo=UTC)  # the clocks go back three hours later
    times = [(hour + i * timedelta(hours=1)).astimezone(berlin) for i in range(8)]
    stream = series(3).stream()
    found = push_all(stream, [[1.0, 2.0]] * 8, times)
    assert len(found) == 6 and found[-1][1].time is times[-1]
    assert (stream.late, stream.interruptions) == (0, 0)


def test_once_there_is_a_time_all_have_one(series) -> None:
    stream = series(3).stream()
    stream.push([1.0, 2.0])
    stream.push([1.0, 2.0], START)
    assert stream.push([1.0, 2.0], START + MINUTE)
    with pytest.raises(DataError, match=r"^stream: give every sample a time, or none; "):
        stream.push([1.0, 2.0])


# --- settings, and a restart ---------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"hold": -1}, {"step": 0}, {"step": math.nan}, {"threshold": math.nan}])
def test_settings_out_of_range_are_refused(exact, wrong) -> None:
    with pytest.raises(DataError, match=r"^stream: hold .*; want hold and threshold of at least 0"):
        exact.stream(**wrong)


def test_a_refractory_time_needs_to_know_the_time(exact) -> None:
    with pytest.raises(DataError, match=r"^stream: a refractory time needs .* step=SECONDS$"):
        exact.stream(alarm=Alarm(refractory=60)).push(READING)
    assert exact.stream(alarm=Alarm(refractory=60), step=1).push(READING)


def test_without_times_the_refractory_time_is_counted_in_steps(exact, rows) -> None:
    bad, good = rows[0], exact.reconstruct(READING)
    threshold = float(exact.score(np.float32(good)) + exact.score(bad)) / 2
    stream = exact.stream(threshold=threshold, alarm=Alarm(refractory=30), step=10)
    alarms = [stream.push(sample).alarm for sample in (bad, good, bad, bad, bad, bad)]
    assert alarms == [True, False, False, False, True, True]


def test_a_threshold_may_be_given(exact) -> None:
    error = exact.stream().push(READING).error
    below, above = exact.stream(threshold=error * 1.01), exact.stream(threshold=error * 0.99)
    assert not below.push(READING).anomaly
    result = above.push(READING)
    assert result.anomaly and result.alarm and result.threshold == error * 0.99


@pytest.mark.parametrize("stop", [3, 40, 77])
def test_after_a_restart_all_goes_on_but_the_open_window(series, rows, stop) -> None:
    ae = series(3)
    settings = {
        "alarm": Alarm(needed=2, among=4, release=0.5, refractory=120, warm_up=5),
        "drift": Drift(memory=20),
    }
    samples = rows[:100, :2].tolist()
    times = [START + i * MINUTE for i in range(100)]
    whole = [r for _, r in push_all(ae.stream(**settings), samples, times)]
    first = ae.stream(**settings)
    before = push_all(first, samples[:stop], times[:stop])
    second = ae.stream(**settings, state=first.state())
    after = push_all(second, samples[stop - 2 :], [*times[stop - 2 : stop], *times[stop:]])
    # the two samples of the open window come again: they are late for the restored clock, so windows are lost
    assert second.late == 2
    assert [r.sequence for _, r in before + after] == list(range(1, len(whole) - 1))
    lost = len(before)
    assert [r.error for _, r in after] == [r.error for r in whole[lost + 2 :]]


def test_after_a_restart_between_windows_nothing_is_lost(exact, rows) -> None:
    settings = {
        "alarm": Alarm(needed=2, among=4, release=0.5, refractory=120, warm_up=5),
        "drift": Drift(memory=20),
        "threshold": float(np.median(exact.score(rows))),
    }
    times = [START + i * MINUTE for i in range(100)]
    stream = exact.stream(**settings)
    whole = [(r.sequence, r.error, r.alarm, r.drift) for _, r in push_all(stream, rows[:100], times)]
    stream, found = exact.stream(**settings), []
    for row, time in zip(rows[:100], times, strict=True):
        result = stream.push(row, time)
        found.append((result.sequence, result.error, result.alarm, result.drift))
        stream = exact.stream(**settings, state=stream.state())
    assert found == whole
    assert {alarm for _, _, alarm, _ in found} == {True, False}
    assert any(drift for *_, drift in found)


def test_a_settled_usual_step_outlives_a_restart(series) -> None:
    stream = timed(series, range(200))[1]
    restarted = series(3).stream(state=stream.state())
    found = push_all(
        restarted, [[1.0, 2.0]] * 6, [START + m * MINUTE for m in (300, 302, 304, 305, 306, 307)]
    )
    assert [index for index, _ in found] == [4, 5]


@unhurried
@given(st.data())
def test_with_the_open_window_a_restart_loses_nothing(series, data) -> None:
    ae = series(data.draw(st.sampled_from([1, 2, 3, 6])), data.draw(st.integers(1, 8)))
    values = 6 // ae.manifest.input.window
    kinds = st.sampled_from([1.0, 2.0, 3.0, None])
    samples = data.draw(st.lists(st.lists(kinds, min_size=values, max_size=values), max_size=40))
    steps = data.draw(st.lists(st.sampled_from([1, 1, 1, 3]), min_size=len(samples), max_size=len(samples)))
    times = [START + sum(steps[: i + 1]) * MINUTE for i in range(len(samples))]
    stops = data.draw(st.sets(st.integers(0, len(samples)), max_size=4))
    whole = push_all(ae.stream(hold=1), samples, times)
    stream, found = ae.stream(hold=1), []
    for start, stop in pairwise(sorted({0, *stops, len(samples)})):
        found += [(start + i, r) for i, r in push_all(stream, samples[start:stop], times[start:stop])]
        stream = ae.stream(hold=1, state=stream.state(window=True))
    assert [(i, r.sequence, r.error) for i, r in found] == [(i, r.sequence, r.error) for i, r in whole]


@pytest.mark.parametrize("window", [1, 2, 6])
def test_an_open_window_of_another_bundle_is_left_behind(series, window) -> None:
    stream = series(3).stream()
    push_all(stream, [[1.0, 2.0]] * 5)
    other = series(window).stream(state=stream.state(window=True))
    found = push_all(other, [[1.0] * (6 // window)] * 8)
    assert [(i, r.sequence) for i, r in found] == [(i, i + 5 - window) for i in range(window - 1, 8)]


@pytest.mark.parametrize("state", [b"", b"{}", b"\xff", b'{"sequence": "one"}'])
def test_a_damaged_state_is_told(exact, state) -> None:
    with pytest.raises(DataError, match=r"^stream: the state cannot be read \(.*\); start without it$"):
        exact.stream(state=state)


# --- memory --------------------------------------------------------------------------------------


def test_memory_does_not_grow(series) -> None:
    ae = series(3, 10)
    stream = ae.stream(hold=1)
    samples = [[1.0, 2.0], (1.0, 3.0), [None, 2.0], np.array([1.0, 2.0]), [math.nan, 1.0]]
    time = START

    def go(count: int) -> None:
        nonlocal time
        for i in range(count):
            time += MINUTE * (9 if i % 1000 == 0 else -1 if i % 77 == 0 else 1)
            stream.push(samples[i % 5], time)

    go(2000)
    tracemalloc.start()
    try:
        go(2000)
        before, _ = tracemalloc.get_traced_memory()
        go(30_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2000


@pytest.mark.slow
def test_resident_memory_does_not_grow_over_a_million_samples(series) -> None:
    stream = series(6, 6).stream()
    push = stream.push

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for value in range(100_000):
        push(float(value % 100))
    before = resident()
    for value in range(900_000):
        push(float(value % 100))
    assert resident() - before < 2e6
