"""Columns and readings that have names are taken by name, in whatever order they stand."""

import json
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import edgeae_runtime
from edgeae_runtime import DataError
from edgeae_runtime.named import by_name, names_of

COLUMNS = ("temperature", "pressure", "vibration", "voltage", "current", "speed")
MIXED = ("speed", "vibration", "temperature", "current", "voltage", "pressure")
VERBS = ("embed", "score", "reconstruct")

Reading = namedtuple("Reading", MIXED)


class Table:
    """What a library's table has, whoever made it: polars has no more, and no ``shape`` that numpy takes."""

    def __init__(self, values: np.ndarray) -> None:
        self.columns = list(values.dtype.names)
        self._values = values

    def __getitem__(self, name: str) -> list[float]:
        return self._values[name].tolist()


def structured(rows, names) -> np.ndarray:
    table = np.empty(len(rows), [(name, np.float32) for name in names])
    for name in names:
        table[name] = rows[:, COLUMNS.index(name)] if name in COLUMNS else 0
    return table


def frame(rows, names) -> pd.DataFrame:
    return pd.DataFrame(structured(rows, names))


@pytest.fixture
def windows_of_two(bundle) -> edgeae_runtime.Autoencoder:
    """The tiny network as one of windows, three readings of two channels."""
    with bundle.manifest() as manifest:
        manifest["input"].update(shape=[3, 2], features=COLUMNS[:2], window=3, stride=1)
    return edgeae_runtime.load(bundle.path, engine="onnxruntime", precision="float32")


TABLES = {
    "pandas": frame,
    "pandas, doubles and an index of times": lambda rows, names: (
        frame(rows, names).astype(float).set_axis(pd.date_range("2026-01-01", periods=len(rows)))
    ),
    "anything alike": lambda rows, names: Table(structured(rows, names)),
    "Arrow table": lambda rows, names: pa.Table.from_pandas(frame(rows, names), preserve_index=False),
    "Arrow batch": lambda rows, names: pa.RecordBatch.from_pandas(frame(rows, names), preserve_index=False),
    "structured": structured,
    "records": lambda rows, names: structured(rows, names).view(np.recarray),
    "dict of arrays": lambda rows, names: {name: frame(rows, names)[name].to_numpy() for name in names},
    "dict of lists": lambda rows, names: frame(rows, names).to_dict("list"),
}
ONE = {
    "pandas": lambda row, names: frame(row[np.newaxis], names).iloc[0],
    "dict": lambda row, names: frame(row[np.newaxis], names).iloc[0].to_dict(),
    "structured": lambda row, names: structured(row[np.newaxis], names)[0],
    "structured without axes": lambda row, names: structured(row[np.newaxis], names).reshape(()),
    "named tuple": lambda row, names: namedtuple("R", names)(*frame(row[np.newaxis], names).iloc[0]),
    "a row of itertuples": lambda row, names: next(frame(row[np.newaxis], names).itertuples()),
}


@pytest.mark.parametrize("names", [COLUMNS, MIXED, (*MIXED, "label"), ("time", *MIXED)])
@pytest.mark.parametrize("kind", TABLES)
def test_a_table_says_the_same_in_whatever_order_its_columns_stand(ae, rows, kind, names) -> None:
    table = TABLES[kind](rows, names)
    for verb in VERBS:
        np.testing.assert_array_equal(getattr(ae, verb)(table), getattr(ae, verb)(rows))
    for found, expected in zip(ae.detect(table), ae.detect(rows), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("names", [COLUMNS, MIXED, (*MIXED, "label")])
@pytest.mark.parametrize("kind", ONE)
def test_so_does_one_reading(ae, rows, kind, names) -> None:
    reading = ONE[kind](rows[0], names)
    for verb in VERBS:
        found = getattr(ae, verb)(reading)
        np.testing.assert_array_equal(found, getattr(ae, verb)(rows[0]))
        assert found.shape == getattr(ae, verb)(rows[0]).shape
    assert ae.detect(reading).error == ae.detect(rows[0]).error


@pytest.mark.parametrize("names", [MIXED, (*MIXED, "label")])
@pytest.mark.parametrize("kind", ONE)
def test_so_does_one_reading_of_a_stream(exact, rows, kind, names) -> None:
    stream, plain = exact.stream(), exact.stream()
    for row in rows[:5]:
        assert stream.push(ONE[kind](row, names)).error == plain.push(row).error


@pytest.mark.parametrize("kind", TABLES)
def test_a_column_that_is_missing_is_told_by_name(ae, rows, kind) -> None:
    table = TABLES[kind](rows, MIXED[1:])
    for verb in (*VERBS, "detect"):
        with pytest.raises(DataError) as caught:
            getattr(ae, verb)(table)
        assert str(caught.value) == (
            "input: has no column 'speed', found 'vibration', 'temperature', 'current', 'voltage', "
            "'pressure'; name the columns as the bundle does (temperature, pressure, vibration, voltage, "
            "current, speed), or give an array with them in this order"
        )


@pytest.mark.parametrize("kind", ONE)
def test_and_so_is_one_of_a_reading_which_a_stream_does_not_take(exact, rows, kind) -> None:
    reading = ONE[kind](rows[0], MIXED[1:])
    with pytest.raises(DataError, match=r"^input: has no column 'speed', found "):
        exact.detect(reading)
    stream = exact.stream()
    with pytest.raises(DataError, match=r"^stream: has no column 'speed', found "):
        stream.push(reading)
    assert stream.push(rows[0]).sequence == 1 and stream.missing == 0


def test_columns_of_other_names_are_not_taken_by_position(ae, rows) -> None:
    for other in (
        pd.DataFrame(rows, columns=list("abcdef")),
        pd.DataFrame(rows, columns=pd.MultiIndex.from_product([["pump"], COLUMNS])),
        Table(structured(rows, [f"column_{i}" for i in range(6)])),  # as polars calls them
        pd.Series(rows[0], pd.date_range("2026-01-01", periods=6)),  # six readings of one channel
    ):
        with pytest.raises(DataError, match=r"^input: has no column 'temperature', 'pressure', "):
            ae.detect(other)


def test_a_column_that_is_there_twice_is_told(ae, rows) -> None:
    twice = pd.DataFrame(np.column_stack([rows, rows[:, 0]]), columns=[*COLUMNS, "temperature"])
    with pytest.raises(DataError, match=r"^input: has twice column 'temperature', found"):
        ae.score(twice)


def test_without_names_the_order_is_the_bundles(ae, rows) -> None:
    expected = ae.score(rows)
    for table in (pd.DataFrame(rows), rows.tolist(), [tuple(row) for row in rows.tolist()]):
        np.testing.assert_array_equal(ae.score(table), expected)
    assert ae.score(pd.Series(rows[0])) == expected[0]


def test_where_the_bundle_has_no_names_the_order_is_all_there_is(bundle, rows) -> None:
    with bundle.manifest() as manifest:
        manifest["input"]["features"] = None
    ae = edgeae_runtime.load(bundle.path, engine="onnxruntime", precision="float32")
    table = pd.DataFrame(rows, columns=list("abcdef"))
    np.testing.assert_array_equal(ae.score(table), ae.score(rows))
    assert ae.stream().push(table.iloc[0]).error == ae.score(rows[0])
    with pytest.raises(DataError, match=r"found \(\)"):
        ae.score(table.to_dict("list"))


def test_a_frame_as_long_as_a_window_is_one_sample(windows_of_two, rows) -> None:
    ae = windows_of_two
    window = rows[:3, :2]
    for table in (
        pd.DataFrame(window[:, ::-1], columns=["pressure", "temperature"]),
        pa.table({"pressure": window[:, 1], "other": [1, 2, 3], "temperature": window[:, 0]}),
        {"pressure": window[:, 1], "temperature": window[:, 0]},
    ):
        assert ae.detect(table).error == ae.detect(window).error
        np.testing.assert_array_equal(ae.reconstruct(table), ae.reconstruct(window))
    many = {"pressure": rows[:30, 1].reshape(10, 3), "temperature": rows[:30, 0].reshape(10, 3)}
    np.testing.assert_array_equal(ae.score(many), ae.score(rows[:30, :2].reshape(10, 3, 2)))


def test_windows_are_made_of_the_features_of_a_table(windows_of_two, rows) -> None:
    wanted = windows_of_two.manifest.input
    expected = edgeae_runtime.windows(rows[:, :2], 3)
    for kind in TABLES:
        table = TABLES[kind](rows, MIXED)
        found = edgeae_runtime.windows(table, 3, features=wanted.features)
        np.testing.assert_array_equal(found, expected)
        with pytest.raises(
            DataError, match=r"^windows: the columns have names, .* pass the bundle's, features="
        ):
            edgeae_runtime.windows(table, 3)
        with pytest.raises(DataError, match=r"^input: has no column 'nothing', found 'speed'"):
            edgeae_runtime.windows(table, 3, features=("nothing",))
    channel = pd.Series(rows[:, 0], pd.date_range("2026-01-01", periods=len(rows)))
    for one in (channel, pd.DataFrame(rows[:, :1]), rows[:, 0].tolist()):
        np.testing.assert_array_equal(
            edgeae_runtime.windows(one, 3),
            edgeae_runtime.windows(rows[:, :1], 3).astype(np.asarray(one).dtype),
        )


def test_a_stream_of_windows_takes_readings_by_name(windows_of_two, rows) -> None:
    ae = windows_of_two
    plain, stream = ae.stream(), ae.stream()
    for row in rows[:9, :2]:
        found = stream.push({"pressure": float(row[1]), "temperature": row[0], "seq": 3})
        expected = plain.push(row)
        assert (found and found.error) == (expected and expected.error)


def test_a_value_of_a_reading_that_is_none_is_missing_as_in_a_list(exact, rows) -> None:
    stream = exact.stream(hold=1)
    reading = dict(zip(COLUMNS, rows[0].tolist(), strict=True))
    stream.push(reading)
    assert stream.push(reading | {"speed": None}).error == exact.score(rows[0])
    assert stream.missing == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"speed": ["fast"] * 1000}, "input: holds .*, expected real numbers"),
        ({"speed": [1.0, 2.0]}, "input: its columns do not make an array .*; give numbers, as many in each"),
        ({"speed": np.full(1000, "2026", "M8[s]")}, "input: its columns do not make an array"),
        ({"speed": [np.nan] * 1000}, "input: row 1 holds nan; every value must be finite"),
        ({"speed": pd.array([None] * 1000, "Int64")}, "input: row 1 holds nan; every value must be finite"),
        ({"speed": [{}] * 1000}, "input: holds object, expected real numbers"),
    ],
)
def test_what_the_columns_hold_is_checked_as_ever(ae, rows, change, told) -> None:
    with pytest.raises(DataError, match=f"^{told}"):
        ae.detect(frame(rows, MIXED).to_dict("list") | change)


def test_no_data_frame_library_is_imported_for_it(tiny, rows) -> None:
    code = (
        "import json, sys, edgeae_runtime\n"
        f"ae = edgeae_runtime.load({str(tiny)!r}, engine='onnxruntime', precision='float32')\n"
        f"error = ae.score({dict(zip(COLUMNS, rows[0].tolist(), strict=True))!r})\n"
        "print(json.dumps([float(error), sorted({'pandas', 'polars', 'pyarrow'} & {*sys.modules})]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    error, imported = json.loads(run.stdout)
    assert imported == [] and error > 0


def test_a_tuple_that_names_no_fields_has_no_names():
    empty = namedtuple("Empty", [])
    assert names_of(empty()) is None


def test_names_there_twice_are_told_apart_from_missing_ones():
    table = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"])
    with pytest.raises(DataError, match="has twice column 'a'"):
        by_name(table, ["a", "b"])
