import itertools
import resource
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from packages import in_ci

import edgeae.data.spill
from edgeae import TrainConfig, train
from edgeae.data.load import load_data
from edgeae.data.scaling import fit_scaler
from edgeae.data.spill import SpillBuffer
from edgeae.data.split import hold_out
from edgeae.training.batches import BLOCK_ROWS, BLOCKS_MIXED, BlockBatches
from edgeae_runtime import DataError, Scaler
from edgeae_runtime.cli.main import main
from edgeae_runtime.errors import EdgeaeWarning

MACHINE = Path(__file__).parents[3].parent / "shared" / "data" / "machine_temperature.csv"

unhurried = settings(deadline=None)


def minutes(steps):
    return np.datetime64("2026-01-01T00:00", "us") + np.cumsum([0, *steps]) * np.timedelta64(60, "s")


def write(path, times, labels=None, channels=2):
    """Write readings that hold their own row number, so that a window tells which ones are in it."""
    names = ["when", *(f"c{i}" for i in range(channels)), *([] if labels is None else ["state"])]
    lines = [",".join(names)]
    for row, time in enumerate(times):
        cells = [
            str(time),
            *(f"{row}.{i}" for i in range(channels)),
            *([] if labels is None else [labels[row]]),
        ]
        lines.append(",".join(map(str, cells)))
    path.write_text("\n".join([*lines, ""]))
    return path


def rows_in(window):
    return np.floor(window[:, 0]).astype(int)


@contextmanager
def short_segments():
    """Let readings be left out without a word."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*shorter than a window", EdgeaeWarning)
        yield


steps = st.lists(st.sampled_from([1, 1, 1, 1, 1, 1, 9]), min_size=8, max_size=60)


# --- windows in training -------------------------------------------------------------------------


@unhurried
@given(steps, st.integers(1, 8), st.integers(1, 8))
def test_no_window_crosses_a_gap_and_all_that_fit_are_there(tmp_path_factory, steps, window, stride):
    times = minutes(steps)
    path = write(tmp_path_factory.mktemp("series") / "pump.csv", times)
    limit = 1.5 * np.median(steps)
    breaks = [0, *(i + 1 for i, step in enumerate(steps) if step > limit), len(times)]
    expected = [
        list(range(first, first + window))
        for start, stop in itertools.pairwise(breaks)
        for first in range(start, stop - window + 1, stride)
    ]
    if not expected:
        with pytest.raises(DataError, match="longest uninterrupted segment has"):
            load_data(path, window=window, stride=stride)
        return
    with short_segments():
        data = load_data(path, window=window, stride=stride)
    assert [rows_in(w).tolist() for w in data.values] == expected
    assert (data.window, data.stride, data.features) == (window, stride, ("c0", "c1"))
    np.testing.assert_array_equal(data.timestamps, times[[rows[-1] for rows in expected]])
    assert data.segments is not None
    assert [i for file in data.segments for r in file for i in r] == [rows[0] for rows in expected]


def test_one_segment_is_a_view(tmp_path):
    path = write(tmp_path / "pump.csv", minutes([1] * 99))
    assert not load_data(path, window=10).values.flags.owndata


def test_no_window_lies_across_two_files(tmp_path):
    files = [write(tmp_path / f"{name}.csv", minutes([1] * 9)) for name in "ab"]
    data = load_data(files, window=4)
    assert [rows_in(w)[0] for w in data.values] == [*range(7), *range(7)]
    folder = load_data(tmp_path, window=4)
    np.testing.assert_array_equal(folder.values, data.values)
    assert data.segments == folder.segments == ((range(7),), (range(7),))


def test_segments_that_are_too_short_are_told(tmp_path):
    path = write(tmp_path / "pump.csv", minutes([1, 1, 1, 1, 9, 1]))
    with pytest.warns(
        EdgeaeWarning, match=r"^2 readings lie in 1 segments shorter than a window of 4, and are"
    ):
        assert len(load_data(path, window=4).values) == 2


@pytest.mark.parametrize(
    ("source", "options", "told"),
    [
        (
            "digits",
            {"window": 4},
            r"^digits: holds samples of shape \(8, 8\), which are no readings in order of",
        ),
        (np.ones((9, 2)), {"window": 0}, r"^window 0 and stride 1: both must be at least 1$"),
        (
            np.ones((9, 2)),
            {"window": 10},
            r"^the data: its longest uninterrupted segment has 9 readings, fewer",
        ),
    ],
)
def test_what_has_no_windows_is_refused(source, options, told):
    with pytest.raises(DataError, match=told):
        load_data(source, **options)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (
            [1, 1, 0, 1],
            "rows 3 and 4 have the same time, 2026-01-01 00:02:00; sort the file by time, and keep",
        ),
        (
            [1, 1, -1, 5],
            "row 4 is of 2026-01-01 00:01:00, before row 3 of 2026-01-01 00:02:00; sort the file",
        ),
    ],
)
def test_times_out_of_order_are_refused_for_a_series_and_mean_no_order_otherwise(tmp_path, steps, told):
    path = write(tmp_path / "pump.csv", minutes(steps))
    with pytest.raises(DataError) as caught:
        load_data(path, window=2)
    assert str(caught.value).startswith(f"{path}: {told}")
    assert len(load_data(path).values) == 5


# --- labels of windows ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from("0001"), min_size=6, max_size=40), st.integers(1, 6), st.integers(1, 3))
def test_a_window_is_anomalous_if_any_reading_in_it_is(tmp_path_factory, labels, window, stride):
    path = write(tmp_path_factory.mktemp("series") / "pump.csv", minutes([1] * (len(labels) - 1)), labels)
    if "0" not in labels:
        return
    data = load_data(path, label_column="state", window=window, stride=stride)
    expected = [any(labels[row] == "1" for row in rows_in(w)) for w in data.values]
    assert data.labels.tolist() == expected
    clean = [rows_in(w).tolist() for w in load_data(path, label_column="state", window=window).values]
    wanted = [rows for rows in clean if all(labels[row] == "0" for row in rows)]
    if wanted:
        with short_segments():
            normal = load_data(path, label_column="state", normal="0", window=window)
        assert [rows_in(w).tolist() for w in normal.values] == wanted


def test_where_nothing_says_what_is_normal_the_most_frequent_label_is_taken_and_told(tmp_path):
    labels = ["ok", "ok", "ok", "leak", "jam", "ok", "ok", "ok"]
    path = write(tmp_path / "pump.csv", minutes([1] * 7), labels)
    with pytest.warns(
        EdgeaeWarning, match=r"^taken as the normal label, since it is the most frequent: 'ok'$"
    ):
        data = load_data(path, label_column="state", window=2)
    assert data.labels.tolist() == ["ok", "ok", "leak", "jam", "jam", "ok", "ok"]


# --- the split in time ---------------------------------------------------------------------------


@unhurried
@given(
    st.lists(steps, min_size=1, max_size=3),
    st.integers(1, 5),
    st.integers(1, 5),
    st.floats(0.05, 0.6),
)
def test_no_reading_is_in_both_parts_and_the_last_are_held_out(
    tmp_path_factory, files, window, stride, share
):
    folder = tmp_path_factory.mktemp("series")
    for number, one in enumerate(files):
        write(folder / f"{number}.csv", minutes(one), channels=1)
    try:
        with short_segments():
            data = load_data(folder, window=window, stride=stride)
    except DataError:
        return  # no window fits
    offsets = np.repeat(np.arange(len(data.segments)), [sum(map(len, file)) for file in data.segments])
    numbered = data.values + 1000 * offsets[:, np.newaxis, np.newaxis]
    try:
        train_rows, held = hold_out(numbered, share, 0, segments=data.segments, window=window)
    except DataError as error:
        assert "both need at least one: give a longer series" in str(error)
        return
    trained, out = (set(np.floor(part).astype(int).ravel()) for part in (train_rows, held))
    assert not trained & out
    for file in range(len(data.segments)):
        mine = np.flatnonzero(offsets == file)
        last = round(len(mine) * share)
        first_rows = {int(numbered[i, 0, 0]) for i in mine[len(mine) - last :]}
        assert first_rows == {row for row in np.floor(held[:, 0, 0]).astype(int) if row // 1000 == file}
        # and nothing that shares no reading with those is left out
        border = min(first_rows, default=10**9)
        expected = sum(int(numbered[i, 0, 0]) + window <= border for i in mine)
        assert expected == sum(row // 1000 == file for row in np.floor(train_rows[:, 0, 0]).astype(int))


def test_a_table_with_times_in_order_is_split_in_time_too(tmp_path):
    data = load_data(write(tmp_path / "pump.csv", minutes([1] * 9)))
    train_rows, held = hold_out(data.values, 0.2, 0, segments=data.segments)
    np.testing.assert_array_equal(train_rows, data.values[:8])
    np.testing.assert_array_equal(held, data.values[8:])


def test_a_series_too_short_for_two_parts_is_told(tmp_path):
    data = load_data(write(tmp_path / "pump.csv", minutes([1] * 9)), window=8)
    with pytest.raises(DataError) as caught:
        hold_out(data.values, 0.4, 0, segments=data.segments, window=8)
    assert str(caught.value) == (
        "3 windows of 8 readings, the last 40% of them held out, leave 1 held out and 0 for training that "
        "share no reading with those; both need at least one: give a longer series, or a smaller window"
    )


# --- scaling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["minmax", "standard"])
def test_windows_are_scaled_channel_by_channel(kind):
    readings = np.float32(np.random.default_rng(0).normal([5, -90, 3e4], [0.1, 3, 700], (200, 3)))
    data = load_data(readings, window=20)
    scaler = fit_scaler(data.values, kind, None, series=True)
    flat = np.float64(data.values).reshape(-1, 3)
    expected = (
        (flat.min(axis=0), np.ptp(flat, axis=0))
        if kind == "minmax"
        else (flat.mean(axis=0), flat.std(axis=0))
    )
    np.testing.assert_allclose(scaler.offset, expected[0], rtol=1e-6)
    np.testing.assert_allclose(scaler.gain, 1 / expected[1], rtol=1e-6)
    if kind == "minmax":  # of windows that cover all readings
        np.testing.assert_array_equal(np.float32(scaler.offset), readings.min(axis=0))


# --- more than memory should hold ----------------------------------------------------------------


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(edgeae.data.spill, "MOST_IN_MEMORY", 4000)
    monkeypatch.setattr(edgeae.data.spill, "STEP_BYTES", 1000)


@pytest.mark.usefixtures("little_memory")
def test_a_store_that_spills_gives_the_same_array_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pieces = [np.float32(np.random.default_rng(i).normal(size=(100, 3))) for i in range(12)]
    array = SpillBuffer().extend(pieces).finish()
    np.testing.assert_array_equal(array, np.concatenate(pieces))
    assert type(array) is np.ndarray and not array.flags.owndata
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("little_memory")
def test_a_full_temporary_folder_is_told():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))  # refuses as a full disk does
    try:
        with pytest.raises(
            DataError, match=r": the data do not fit into this folder \(.*\); set TMPDIR to one"
        ):
            SpillBuffer().append(np.ones((5000, 3), np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("little_memory")
def test_of_large_data_rows_from_everywhere_are_held_out():
    rows = np.arange(6000, dtype=np.float32).reshape(2000, 3)
    train_rows, held = hold_out(rows, 0.2, 7)
    assert (len(train_rows), len(held)) == (1600, 400)
    np.testing.assert_array_equal(np.sort(np.concatenate([train_rows, held]), axis=0), rows)
    assert np.ptp(np.histogram(held[:, 0], bins=8, range=(0, 6000))[0]) < 10
    np.testing.assert_array_equal(hold_out(rows, 0.2, 7)[1], held)
    assert not np.array_equal(hold_out(rows, 0.2, 8)[1], held)


def test_large_data_are_scaled_as_small_ones_are(request):
    rows = np.float32(np.random.default_rng(0).normal(5, 3, (2000, 3)))
    scaler = fit_scaler(rows, "standard", None)
    request.getfixturevalue("little_memory")
    stepwise = fit_scaler(rows, "standard", None)
    np.testing.assert_allclose(stepwise.offset, scaler.offset, rtol=1e-6)
    np.testing.assert_allclose(stepwise.gain, scaler.gain, rtol=1e-6)


@pytest.mark.usefixtures("little_memory")
def test_windows_with_gaps_are_the_same_in_a_file(tmp_path):
    path = write(tmp_path / "pump.csv", minutes([9 if i == 50 else 1 for i in range(1, 300)]))
    data = load_data(path, window=10)
    np.testing.assert_array_equal([rows_in(w)[0] for w in data.values], [*range(41), *range(50, 291)])
    assert data.values.nbytes > 4000 and not data.values.flags.writeable


@unhurried
@given(st.integers(1, 2000), st.integers(1, 300), st.integers(0, 9))
def test_an_epoch_of_blocks_has_each_row_once_in_an_order_of_its_own(count, batch, epoch):
    rows = np.arange(count, dtype=np.float32)[:, np.newaxis]
    unscaled = Scaler(kind="none", offset=(0.0,), gain=(1.0,))

    def order(epoch):
        batches = BlockBatches(rows, unscaled, batch, seed=3, epoch=epoch)
        parts = [batches[i] for i in range(len(batches))]
        assert all(a is b for a, b in parts)
        assert {len(a) for a, _ in parts[:-1]} <= {batch}
        return np.concatenate([a for a, _ in parts])[:, 0]

    once, again, next_one = order(epoch), order(epoch), order(epoch + 1)
    np.testing.assert_array_equal(np.sort(once), rows[:, 0])
    np.testing.assert_array_equal(once, again)
    assert count < 10 or not np.array_equal(once, next_one)


def test_blocks_from_all_of_the_data_are_mixed():
    count = 3 * BLOCK_ROWS * BLOCKS_MIXED // 2
    rows = np.arange(count, dtype=np.float32)[:, np.newaxis]
    unscaled = Scaler(kind="none", offset=(0.0,), gain=(1.0,))
    batches = BlockBatches(rows, unscaled, 4096)
    assert len(batches) == -(-count // 4096)
    first = batches[0][0][:, 0] / count
    np.testing.assert_allclose(np.quantile(first, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.05)


# --- from the command line to a run --------------------------------------------------------------


def test_a_run_on_windows_records_what_the_device_needs():
    readings = np.float32(np.random.default_rng(0).normal(size=(300, 2)))
    data = load_data(readings, window=10, stride=2)
    trained = train(data, TrainConfig(hidden=(8,), latent=3, epochs=1, batch_size=16))
    assert trained.input.shape == (10, 2)
    assert (trained.input.window, trained.input.stride) == (10, 2)
    assert len(trained.scaler.gain) == 2
    np.testing.assert_array_equal(trained.held_out, data.values[-len(trained.held_out) :])


def invoke(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--stride", "2"], "--stride is that of windows; pass --window too"),
        (["--normal", "ok"], "--normal is one of the labels; pass --label-column too"),
        (["--columns", "heat"], "pump.npy: has no columns to choose from; leave out --columns"),
        (["--label-column", "x"], "has no column 'x'; labels are a column of a table"),
    ],
)
def test_options_that_do_not_go_together_are_told(tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    np.save("pump.npy", np.ones((9, 2)))
    result = invoke("train", "pump.npy", "--out", "pump.run", *options)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert told in result.stderr


@pytest.mark.slow
def test_the_machine_temperatures_are_trained_on_and_split_at_a_time(tmp_path):
    if not MACHINE.is_file():
        give_up = pytest.fail if in_ci() else pytest.skip
        give_up(f"{MACHINE.name} of the Numenta Anomaly Benchmark is not in {MACHINE.parent}")
    with pytest.warns(EdgeaeWarning, match=r"row 10150 is of 2014-01-07 02:00:00, before row 10149 of"):
        data = load_data(MACHINE, window=60)
    assert data.values.shape == (22_695 - 2 * 59, 60, 1)  # the clock was set back once
    assert data.timestamps[0] == np.datetime64("2013-12-03T02:10:00")
    with warnings.catch_warnings():
        warnings.simplefilter("default", EdgeaeWarning)
        result = invoke("train", MACHINE, "--window", 60, "--epochs", 1, "--out", tmp_path / "machine.run")
    assert result.exit_code == 0, result.output
    assert "22,577 windows of 60 readings in 2 uninterrupted segments" in result.stderr
    held = np.load(tmp_path / "machine.run" / "holdout.npy")
    np.testing.assert_array_equal(held, data.values[-len(held) :])
