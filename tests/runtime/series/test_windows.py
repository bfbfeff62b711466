import json
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeae_runtime import DataError, Input, windows
from edgeae_runtime.bulk.samples import apply, sample_batches
from edgeae_runtime.errors import EdgeaeWarning
from edgeae_runtime.readers.table import Piece
from edgeae_runtime.readers.times import is_time, parse_time
from edgeae_runtime.series.clock import FILE_MEDIAN_STEPS, Clock
from edgeae_runtime.series.windows import slide

unhurried = settings(deadline=None)


def naive(rows: np.ndarray, window: int, stride: int) -> list[np.ndarray]:
    return [rows[i : i + window] for i in range(0, len(rows) - window + 1, stride)]


def minutes(steps: list[int]) -> np.ndarray:
    return np.datetime64("2026-01-01T00:00", "us") + np.cumsum([0, *steps]) * np.timedelta64(60, "s")


# --- windows -------------------------------------------------------------------------------------


@unhurried
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.integers(1, 3))
def test_windows_are_those_of_a_naive_loop_and_copy_nothing(count, window, stride, channels) -> None:
    rows = np.arange(count * channels, dtype=np.float32).reshape(count, channels)
    if count < window:
        with pytest.raises(DataError, match=rf"^input: its longest .* has {count} readings, .* of {window};"):
            windows(rows, window, stride)
        return
    found = windows(rows, window, stride)
    np.testing.assert_array_equal(found, naive(rows, window, stride))
    assert np.shares_memory(found, rows)


def test_one_dimension_is_one_channel() -> None:
    assert windows(np.arange(4), 2).tolist() == [[[0], [1]], [[1], [2]], [[2], [3]]]


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (1, 0), (-1, 1)])
def test_a_window_or_stride_below_one_is_refused(window, stride) -> None:
    with pytest.raises(DataError, match=f"^window {window} and stride {stride}: both must be at least 1$"):
        windows(np.ones((3, 1)), window, stride)


def test_images_have_no_order() -> None:
    with pytest.raises(DataError, match=r"readings \(n, channels\), found an array of shape \(3, 2, 2\)$"):
        windows(np.ones((3, 2, 2)), 2)


# --- a series that comes in pieces ---------------------------------------------------------------


@unhurried
@given(st.data())
def test_however_a_series_is_cut_into_pieces_its_windows_are_the_same(data) -> None:
    steps = data.draw(st.lists(st.sampled_from([1, 1, 1, 1, 1, 7]), min_size=1, max_size=60))
    window, stride = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(steps)))))
    times = minutes(steps)
    rows = np.arange(2 * len(times)).reshape(-1, 2)
    usual = np.median(steps)
    breaks = [0, *(i + 1 for i, step in enumerate(steps) if step > 1.5 * usual), len(times)]
    expected = [
        (start + i + window, rows[start + i : start + i + window])
        for start, stop in pairwise(breaks)
        for i in range(0, stop - start - window + 1, stride)
    ]
    pieces = [
        Piece(rows[a:b], times[a:b]) for a, b in zip([0, *cuts], [*cuts, len(times)], strict=True) if b > a
    ]
    if not expected:
        with pytest.raises(DataError, match="longest uninterrupted segment"):
            list(slide(pieces, window, stride, "pump.csv"))
        return
    found = [
        (n, w)
        for numbers, part in slide(pieces, window, stride, "pump.csv")
        for n, w in zip(numbers, part, strict=True)
    ]
    assert [n for n, _ in found] == [n for n, _ in expected]
    np.testing.assert_array_equal([w for _, w in found], [w for _, w in expected])


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_pieces_longer_than_the_first_steps_give_the_same_too(data) -> None:
    count = FILE_MEDIAN_STEPS + data.draw(st.integers(2, 500))
    gap = data.draw(st.integers(1, count - 1))
    times = minutes([9 if i == gap else 1 for i in range(1, count)])
    rows = np.arange(count).reshape(-1, 1)
    cuts = sorted(data.draw(st.sets(st.integers(1, count - 1), max_size=4)))
    pieces = [Piece(rows[a:b], times[a:b]) for a, b in zip([0, *cuts], [*cuts, count], strict=True)]
    last = np.concatenate([numbers for numbers, _ in slide(pieces, 10, 1, "pump.csv")])
    expected = [*range(10, gap + 1), *range(gap + 10, count + 1)]
    assert last.tolist() == expected


# --- times that are not in order -----------------------------------------------------------------


def test_times_that_stand_still_or_go_back_are_told_with_the_row() -> None:
    told = r"^pump: rows 3 and 4 have the same time, 2026-01-01 00:02:00; sort the file by time, and keep"
    with pytest.raises(DataError, match=told):
        Clock("pump").interruptions(minutes([1, 1, 0, 1]))
    told = r"^pump: row 3 is of 2025-12-31 23:56:00, before row 2 of 2026-01-01 00:01:00; sort the file"
    with pytest.raises(DataError, match=told):
        Clock("pump").interruptions(minutes([1, -5, 1]))


def test_a_clock_that_is_set_back_once_in_a_thousand_readings_interrupts_and_is_told() -> None:
    steps = [1] * 1500
    steps[1200] = -59
    clock = Clock("pump")
    times = minutes(steps)
    assert clock.interruptions(times[:1100]) == []
    with pytest.warns(EdgeaeWarning, match=r"^pump: row 1202 is of .*: taken as an interruption$"):
        assert clock.interruptions(times[1100:]) == [101]


def test_a_piece_may_begin_with_a_gap() -> None:
    clock = Clock("pump")
    times = minutes([1, 1, 1, 5, 1])
    assert clock.interruptions(times[:4]) == []
    assert clock.interruptions(times[4:]) == [0]


# --- dates in text -------------------------------------------------------------------------------

moments = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))


@given(moments)
def test_common_forms_of_a_date_are_read(moment) -> None:
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    second = moment.replace(microsecond=0)
    assert parse_time(moment.isoformat()) == moment
    assert parse_time(f" {moment.isoformat(' ')} ") == moment
    assert parse_time(f"{moment.isoformat()}Z") == moment
    assert parse_time(f"{moment.isoformat()}+02:00") == moment - timedelta(hours=2)
    assert parse_time(f"{day:%Y-%m-%d}") == day
    assert parse_time(f"{second.year:04}/{second.month}/{second.day} {second:%H:%M:%S}") == second
    assert parse_time(f"{second.day}.{second.month}.{second.year:04} {second.hour}:{second:%M:%S}") == second
    assert parse_time(f"{day:%d.%m.%Y}") == day


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "ok",
        "12:30",
        "02/12/2013",
        "2013-13-01",
        "30.2.2013",
        "NaT",
        "1.5",
        "2013-02",
        "\u0662\u0660\u0661\u0663-01-01",
    ],
)
def test_what_is_no_date_or_may_be_two_is_not_taken_for_one(text) -> None:
    assert not is_time(text)


# --- files for a bundle --------------------------------------------------------------------------

SERIES = Input(shape=(3, 2), features=("heat", "load"), window=3, stride=2)


def write_series(path: Path, count: int, gap: int | None = None) -> np.ndarray:
    """Write readings at one-minute steps, with a gap before one of them; return them."""
    rows = np.float32(np.random.default_rng(0).normal(size=(count, 2)))
    times = minutes([60 if i == gap else 1 for i in range(1, count)])
    lines = [f"{load},{time},{heat}" for time, (heat, load) in zip(times, rows.tolist(), strict=True)]
    path.write_text("\n".join(["load,when,heat", *lines, ""]))
    return rows


def collected(sample: Input, path: Path) -> tuple[list[int], np.ndarray]:
    numbers, parts = zip(*sample_batches(sample, path), strict=True)
    return [int(n) for part in numbers for n in part], np.concatenate(parts)


def test_a_csv_becomes_windows_numbered_by_their_last_reading_and_none_crosses_a_gap(tmp_path) -> None:
    rows = write_series(tmp_path / "pump.csv", 20, gap=8)
    numbers, found = collected(SERIES, tmp_path / "pump.csv")
    assert numbers == [3, 5, 7, 11, 13, 15, 17, 19]
    np.testing.assert_array_equal(found, [rows[n - 3 : n] for n in numbers])


def test_a_series_without_times_is_one_segment(tmp_path) -> None:
    rows = np.float32(np.random.default_rng(0).normal(size=(3000, 2)))
    np.save(tmp_path / "pump.npy", rows)
    numbers, found = collected(SERIES, tmp_path / "pump.npy")
    assert numbers == list(range(3, 3001, 2))
    np.testing.assert_array_equal(found, naive(rows, 3, 2))


def test_windows_that_are_made_already_are_taken_as_they_are(tmp_path) -> None:
    made = np.ones((4, 3, 2), np.float32)
    np.save(tmp_path / "made.npy", made)
    numbers, found = collected(SERIES, tmp_path / "made.npy")
    assert numbers == [1, 2, 3, 4]
    np.testing.assert_array_equal(found, made)


def test_a_series_shorter_than_a_window_is_told(tmp_path) -> None:
    write_series(tmp_path / "pump.csv", 4, gap=2)
    with pytest.raises(DataError) as caught:
        collected(SERIES, tmp_path / "pump.csv")
    assert str(caught.value) == (
        f"{tmp_path}/pump.csv: its longest uninterrupted segment has 2 readings, fewer than a window of 3; "
        "give a longer series or a smaller window"
    )


def test_two_columns_of_times_are_told(tmp_path) -> None:
    (tmp_path / "pump.csv").write_text("heat,load,a,b\n1,2,2026-01-01,2026-01-02\n")
    with pytest.raises(
        DataError, match=r"pump\.csv: columns 'a', 'b' all hold dates, and one is the time of a row"
    ):
        collected(SERIES, tmp_path / "pump.csv")


def test_readings_of_other_channels_are_told(tmp_path) -> None:
    np.save(tmp_path / "pump.npy", np.ones((9, 4)))
    with pytest.raises(DataError, match=r"pump\.npy: a reading has 4 values, the bundle's windows are of 2$"):
        collected(SERIES, tmp_path / "pump.npy")


def test_an_error_in_a_later_unit_says_from_where_its_rows_are_counted() -> None:
    def run(samples):
        raise DataError("input: row 2 is far")

    with pytest.raises(DataError, match=r"^input: row 2 is far$"):
        apply((range(1, 3), np.ones((2, 1))), run, Path("a.csv"))
    with pytest.raises(DataError, match=r"^input: row 2 is far \(counted from row 2,001 of a\.csv\)$"):
        apply((range(2001, 2003), np.ones((2, 1))), run, Path("a.csv"))


def test_the_command_gives_a_row_for_each_window(bundle, run, tmp_path) -> None:
    """Of the tiny bundle, a table of four columns, is made one of windows of two readings of two channels."""
    with bundle.manifest() as manifest:
        size = int(np.prod(manifest["input"]["shape"]))
        scaler = manifest["scaler"]
        manifest["input"] = {"shape": [size // 2, 2], "features": ["heat", "load"], "dtype": "float32"}
        manifest["input"] |= {"window": size // 2, "stride": 1}
        scaler["offset"], scaler["gain"] = scaler["offset"][:2], scaler["gain"][:2]
    window = size // 2
    write_series(tmp_path / "pump.csv", 12, gap=5)
    lines = [
        json.loads(line) for line in run("score", bundle.path, tmp_path / "pump.csv").stdout.splitlines()
    ]
    assert [line["row"] for line in lines] == [*range(window, 6), *range(5 + window, 13)]
    run("embed", bundle.path, tmp_path / "pump.csv", "-o", tmp_path / "codes.npy")
    assert len(np.load(tmp_path / "codes.npy")) == len(lines)
