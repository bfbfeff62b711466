import gzip
import io
import json
import re
import sys
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from edgeae.data.load import load_data
from edgeae_runtime import DataError

unhurried = settings(deadline=None)  # the machine may be busy


# --- tables: what a column is ---------------------------------------------------------------------

CSV = """when,speed,heat,state
2026-01-01 00:00:00,1,20.5,ok
2026-01-01 00:01:00,2,21.5,ok
2026-01-01 00:02:00,3,22.5,leak
2026-01-01 00:03:00,4,23.5,ok
"""
WHEN = np.array([f"2026-01-01T00:0{i}" for i in range(4)], "datetime64[us]")
SPEED, HEAT, STATE = [1, 2, 3, 4], [20.5, 21.5, 22.5, 23.5], ["ok", "ok", "leak", "ok"]


def as_csv(folder):
    (folder / "pump.csv").write_text(CSV)
    return folder / "pump.csv"


def as_packed_csv(folder):
    (folder / "pump.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    return folder / "pump.csv.gz"


def as_json_lines(folder):
    rows = zip(WHEN.astype(str).tolist(), SPEED, HEAT, STATE, strict=True)
    lines = [json.dumps(dict(zip(["when", "speed", "heat", "state"], row, strict=True))) for row in rows]
    (folder / "pump.jsonl").write_text("\n".join(lines))
    return folder / "pump.jsonl"


def as_arrow(folder, when=WHEN):
    return pa.table({"when": when, "speed": SPEED, "heat": HEAT, "state": STATE})


def as_parquet(folder):
    pq.write_table(as_arrow(folder), folder / "pump.parquet", row_group_size=2)
    return str(folder / "pump.parquet")


def as_text_of_dates(folder):
    return as_arrow(folder, [str(time) for time in WHEN])


def as_frame(folder):
    return pd.DataFrame({"when": WHEN, "speed": SPEED, "heat": HEAT, "state": pd.Categorical(STATE)})


def as_indexed_frame(folder):
    """With its times in the index, as people keep series."""
    return as_frame(folder).set_index("when")


SOURCES = [
    as_csv,
    as_packed_csv,
    as_json_lines,
    as_parquet,
    as_arrow,
    as_text_of_dates,
    as_frame,
    as_indexed_frame,
]


@pytest.mark.parametrize("make", SOURCES)
def test_dates_labels_and_numbers_of_a_table_are_told_apart(make, tmp_path):
    data = load_data(make(tmp_path), label_column="state")
    assert data.features == ("speed", "heat")
    assert data.values.dtype == np.float32
    np.testing.assert_array_equal(data.values, np.column_stack([SPEED, HEAT]))
    np.testing.assert_array_equal(data.timestamps, WHEN)
    assert data.labels.tolist() == STATE
    assert data.segments == ((range(4),),)


@pytest.mark.parametrize("make", SOURCES)
def test_of_a_table_only_normal_rows_are_kept(make, tmp_path):
    data = load_data(make(tmp_path), label_column="state", normal="ok", columns=["heat"])
    assert data.features == ("heat",)
    assert data.values.tolist() == [[20.5], [21.5], [23.5]]
    np.testing.assert_array_equal(data.timestamps, WHEN[[0, 1, 3]])
    assert set(data.labels) == {"ok"}


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {},
            r"column 'state' holds (text \('ok'\)), neither numbers nor dates; name the columns to use with "
            "columns, or keep it as labels with label_column='state'$",
        ),
        ({"columns": ["hot"]}, "has no column 'hot', found .*'speed', 'heat', 'state'.*; choose of these$"),
        (
            {"label_column": "hot"},
            "has no column 'hot', found .*'speed', 'heat', 'state'.*; choose of these$",
        ),
        (
            {"label_column": "state", "normal": "fine"},
            "no row has the label 'fine', found 'leak', 'ok'; choose",
        ),
        (
            {"columns": ["heat"], "normal": "ok"},
            "a normal label was named, but no labels; name their label_c",
        ),
    ],
)
def test_a_table_that_cannot_serve_as_asked_is_told(make, options, told, tmp_path):
    with pytest.raises(DataError, match=told):
        load_data(make(tmp_path), **options)


def test_labels_of_whole_numbers_are_integers_and_known_in_any_spelling(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,0\n2,1.0\n3,1\n")
    data = load_data(tmp_path / "a.csv", label_column="y")
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == [0, 1, 1]
    assert load_data(tmp_path / "a.csv", label_column="y", normal=1).values.tolist() == [[2], [3]]
    flags = pa.table({"x": [1, 2, 3], "y": [False, True, True]})
    assert load_data(flags, label_column="y", normal="1").values.tolist() == [[2], [3]]


@unhurried
@given(st.lists(st.datetimes(), min_size=1, max_size=8), st.sampled_from(["T", " "]), st.booleans())
def test_a_column_of_dates_is_never_a_feature(tmp_path_factory, times, separator, quoted):
    path = tmp_path_factory.mktemp("tables") / "pump.csv"
    mark = '"' if quoted else ""
    lines = [f"{i},{mark}{time.isoformat(separator)}{mark}" for i, time in enumerate(times)]
    path.write_text("\n".join(["x,when", *lines, ""]))
    data = load_data(path)
    assert data.features == ("x",)
    assert data.timestamps.tolist() == times
    assert (data.segments is not None) == (sorted(times) == times)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "when,x\n2026-01-01,1\nn/a,2\n",
            "row 2 (line 3), column 'when': 'n/a' is not a date, as others of the column are; remove or "
            "repair the row, or leave the column out",
        ),
        (
            "a,b,x\n2026-01-01,2026-01-02,1\n",
            "columns 'a', 'b' all hold dates, and one is the time of a row; name it, and "
            "the features, with columns",
        ),
        ("when\n2026-01-01\n", "no column of numbers is left among 'when'; choose one"),
        ("x,y\n1,ok\n2,\n", "row 2 (line 3), column 'y' is empty; remove or repair the row"),
        (
            "x,y\n1,ok\nhot,ok\n",
            "row 2 (line 3), column 'x': 'hot' is not a number; remove or repair the row",
        ),
    ],
)
def test_a_bad_cell_or_column_of_a_table_is_named(tmp_path, text, told):
    path = tmp_path / "pump.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load_data(path, label_column="y" if "y" in text.splitlines()[0] else None)
    assert str(caught.value) == f"{path}: {told}"


def test_of_two_columns_of_dates_the_chosen_one_is_the_time(tmp_path):
    (tmp_path / "a.csv").write_text("made,when,x\n2020-01-01,2026-01-01,1\n2020-01-01,2026-01-02,2\n")
    data = load_data(tmp_path / "a.csv", columns=["when", "x"])
    assert data.features == ("x",)
    assert data.timestamps.astype("datetime64[D]").astype(str).tolist() == ["2026-01-01", "2026-01-02"]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"x": [1.0, None]}, "^the table: row 2, column 'x' is empty; remove or repair the row$"),
        ({"x": [1.0, float("inf")]}, "^the table: row 2, column 'x' is inf; every value must be finite$"),
        (
            {"x": [1.0, 1e300]},
            r"^the table: row 2, column 'x' is 1e\+300, which does not fit float32; rescale",
        ),
        (
            {"x": [[1], [2]]},
            "^the table: column 'x' holds values of type list<.*>, neither numbers nor dates;",
        ),
        ({"x": pa.array([], pa.float64())}, "^the table: has no rows; give at least one sample$"),
    ],
)
def test_a_bad_value_of_an_arrow_table_is_named(columns, told):
    with pytest.raises(DataError, match=told):
        load_data(pa.table(columns))


def test_an_index_of_a_frame_that_is_no_time_is_no_feature():
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    assert load_data(frame[frame.x > 1]).features == ("x",)


def test_a_parquet_file_that_is_none_is_told(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"/a\.parquet: cannot be read as a table \(.*\); write it again$"):
        load_data(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"/b\.parquet: no such file$"):
        load_data(tmp_path / "b.parquet")


def test_several_files_are_read_by_the_columns_of_the_first(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_text("y,x\n4,3\n")
    assert load_data(tmp_path).values.tolist() == [[1, 2], [3, 4]]
    (tmp_path / "c.csv").write_text("x,z\n4,3\n")
    with pytest.raises(DataError, match=r"/c\.csv: has no column 'y', found 'x', 'z'; choose of these$"):
        load_data([tmp_path / "a.csv", tmp_path / "c.csv"])


def record(path, samples, rate=1000):
    with wave.open(str(path), "wb") as writer:
        writer.setparams((samples.shape[1], 2, rate, 0, "NONE", ""))
        writer.writeframes(samples.astype("<i2").tobytes())
    return path


def test_windows_of_recordings_stay_within_them_and_are_in_order_of_time(tmp_path):
    samples = np.arange(40).reshape(20, 2)
    record(tmp_path / "a.wav", samples)
    record(tmp_path / "b.WAV", -samples)
    data = load_data(tmp_path, window=8, stride=4)
    assert data.features == ("left", "right")
    expected = [sign * samples[start : start + 8] for sign in (1, -1) for start in (0, 4, 8, 12)]
    np.testing.assert_array_equal(data.values, np.float32(expected) / 2**15)
    assert data.segments == ((range(0, 13, 4),), (range(0, 13, 4),))
    assert data.timestamps[:4].astype(np.int64).tolist() == [7000, 11_000, 15_000, 19_000]
    assert load_data(tmp_path / "a.wav", columns=["right"]).values.shape == (20, 1)


def test_a_folder_may_hold_tables_of_all_kinds_and_what_is_piped_in_is_read_once(tmp_path, monkeypatch):
    for name, make in {"a": as_csv, "b": as_packed_csv, "c": as_json_lines, "d": as_parquet}.items():
        (tmp_path / name).mkdir()
        made = make(tmp_path / name)
        (tmp_path / f"{name}{''.join(Path(made).suffixes)}").write_bytes(Path(made).read_bytes())
    data = load_data(tmp_path, label_column="state")
    np.testing.assert_array_equal(data.values, np.tile(np.column_stack([SPEED, HEAT]), (4, 1)))
    assert data.labels.tolist() == STATE * 4
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CSV.encode())))
    np.testing.assert_array_equal(load_data("-", label_column="state").values, data.values[:4])


def test_files_of_two_kinds_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.float32))
    np.save(tmp_path / "b.npy", np.ones((2, 4), np.float32))
    with pytest.raises(DataError, match=r"/b\.npy: holds float32 samples of shape \(4,\), the file before"):
        load_data([tmp_path / "a.npy", tmp_path / "b.npy"])


def test_normal_digits():
    data = load_data("digits", normal=7)
    np.testing.assert_array_equal(data.values, load_digits().images[load_digits().target == 7])


# --- pictures ------------------------------------------------------------------------------------


def pictures(folder, count=3, size=(5, 4), mode="L", suffix="png"):
    """Write pictures of noise, and return their pixels."""
    depth = {"L": (), "RGB": (3,), "I;16": ()}[mode]
    kind = np.uint16 if mode == "I;16" else np.uint8
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, np.iinfo(kind).max, (count, size[1], size[0], *depth)).astype(kind)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.{suffix}")
    return pixels


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_a_folder_of_pictures_comes_back_pixel_by_pixel(tmp_path, mode):
    pixels = pictures(tmp_path, mode=mode)
    data = load_data(tmp_path)
    assert data.values.dtype == pixels.dtype
    assert data.features is None and data.segments is None
    np.testing.assert_array_equal(data.values, pixels)


def test_grey_pictures_among_coloured_ones_become_coloured_and_jpeg_is_read(tmp_path):
    pictures(tmp_path, mode="RGB", suffix="jpg")
    Image.fromarray(np.full((4, 5), 77, np.uint8)).save(tmp_path / "grey.png")
    values = load_data(tmp_path).values
    assert values.shape == (4, 4, 5, 3)
    assert np.all(values[3] == 77)


def test_pictures_of_two_sizes_are_refused_by_name(tmp_path):
    pictures(tmp_path)
    Image.new("L", (8, 4)).save(tmp_path / "wide.png")
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    assert str(caught.value) == f"{tmp_path}/wide.png: is 8 x 4 pixels, 0.png is 5 x 4; scale all to one size"


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\nbroken"])
def test_a_picture_that_is_none_is_told(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(
        DataError, match=r"/a\.png: is not a picture that can be read \(.*\); save it again as"
    ):
        load_data(tmp_path)


def test_a_picture_cut_short_is_told(tmp_path):
    pictures(tmp_path, size=(200, 200))
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"/0\.png: is not a picture that can be read"):
        load_data(tmp_path)


def test_a_folder_of_nothing_or_of_everything_is_told(tmp_path):
    told = (
        ": a folder with neither tables nor pictures, expected .csv, .jsonl, .ndjson, .wav or .parquet files"
    )
    with pytest.raises(DataError, match=f"^{tmp_path}{re.escape(told)}"):
        load_data(tmp_path)
    pictures(tmp_path)
    (tmp_path / "a.csv").write_text("x\n1\n")
    with pytest.raises(DataError, match=f"^{tmp_path}: a folder with both tables and pictures, expected"):
        load_data(tmp_path)
