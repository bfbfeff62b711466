import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgeae_runtime import OutputError
from edgeae_runtime.bulk.results import check_output, encode, finish
from edgeae_runtime.cli.terminal import format_table
from edgeae_runtime.names import RESULT_SUFFIXES

SCORES = {
    "error": np.array([0.1, 1e-8, 12345.678], np.float32),
    "threshold": 0.25,
    "anomaly": np.array([False, False, True]),
}
EMBEDDINGS = {"embedding": np.array([[0.1, -2], [3e-30, 4e30], [1 / 3, 0]], np.float32)}


def write(results, path: Path, rows: int = 3, at_once: int = 3) -> Path:
    """Write results as the commands do, some rows at once."""
    with path.open("wb") as file:
        for start in range(0, rows, at_once):
            part = slice(start, min(rows, start + at_once))
            some = {name: v[part] if isinstance(v, np.ndarray) else v for name, v in results.items()}
            numbers = range(part.start + 1, part.stop + 1)
            file.write(encode((numbers, some), path.suffix, first=start == 0))
    finish(path, path.suffix).replace(path)
    return path


@pytest.fixture
def written(tmp_path):
    """A function that writes results and returns the path."""
    return lambda results, name: write(results, tmp_path / name)


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def json_rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# --- the formats say the same --------------------------------------------------------------------


def test_npy_holds_the_main_array_as_it_is(written) -> None:
    for results in (SCORES, EMBEDDINGS):
        main = next(iter(results.values()))
        found = np.load(written(results, "out.npy"), allow_pickle=False)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, main)


def test_scores_read_back_from_text_are_the_same_numbers(written) -> None:
    from_json = json_rows(written(SCORES, "out.jsonl").read_text())
    from_csv = csv_rows(written(SCORES, "out.csv"))
    assert list(from_json[0]) == list(from_csv[0]) == ["row", "error", "threshold", "anomaly"]
    assert [row["row"] for row in from_json] == [int(row["row"]) for row in from_csv] == [1, 2, 3]
    assert [row["anomaly"] for row in from_json] == [False, False, True]
    assert [row["anomaly"] for row in from_csv] == ["False", "False", "True"]
    for rows in (from_json, from_csv):
        assert {float(row["threshold"]) for row in rows} == {0.25}
        np.testing.assert_array_equal([np.float32(row["error"]) for row in rows], SCORES["error"])


def test_embeddings_read_back_from_text_are_the_same_numbers(written) -> None:
    from_json = json_rows(written(EMBEDDINGS, "out.jsonl").read_text())
    from_csv = csv_rows(written(EMBEDDINGS, "out.csv"))
    assert list(from_json[0]) == ["row", "embedding"]
    assert list(from_csv[0]) == ["row", "embedding_0", "embedding_1"]
    found = np.array([row["embedding"] for row in from_json], np.float32)
    np.testing.assert_array_equal(found, EMBEDDINGS["embedding"])
    cells = [[row["embedding_0"], row["embedding_1"]] for row in from_csv]
    np.testing.assert_array_equal(np.array(cells, float).astype(np.float32), EMBEDDINGS["embedding"])


def test_parquet_has_a_column_for_each_result_in_its_own_type(written) -> None:
    table = pq.read_table(written(SCORES, "out.parquet"))
    assert table.schema == pa.schema(
        {"row": pa.int64(), "error": pa.float32(), "threshold": pa.float64(), "anomaly": pa.bool_()}
    )
    assert table["row"].to_pylist() == [1, 2, 3]
    np.testing.assert_array_equal(table["error"].to_numpy(), SCORES["error"])
    assert table["anomaly"].to_pylist() == [False, False, True]
    table = pq.read_table(written(EMBEDDINGS, "out.parquet"))
    found = np.array(table["embedding"].to_pylist(), np.float32)
    np.testing.assert_array_equal(found, EMBEDDINGS["embedding"])


@pytest.mark.parametrize("suffix", RESULT_SUFFIXES)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_results_in_batches_make_the_same_file_as_at_once(suffix, shape, tmp_path) -> None:
    values = np.float32(np.random.default_rng(0).normal(size=(105, *shape)))
    results = {"value": values, "limit": 0.5}
    parts = write(results, tmp_path / f"parts{suffix}", 105, 10)
    assert parts.read_bytes() == write(results, tmp_path / f"whole{suffix}", 105, 105).read_bytes()
    if suffix == ".npy":
        np.save(tmp_path / "numpy.npy", values)
        assert parts.read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_text_has_a_newline_at_the_end_of_each_line(written) -> None:
    for name in ("out.csv", "out.jsonl"):
        content = written(SCORES, name).read_bytes()
        assert content.endswith(b"\n")
        assert b"\r" not in content
        assert content.count(b"\n") == (4 if name == "out.csv" else 3)


# --- where results may go ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.txt", "out", "out.npz", ".csv"])
def test_an_unknown_format_is_refused_before_any_work(tmp_path, name) -> None:
    out = tmp_path / name
    with pytest.raises(OutputError) as caught:
        check_output(out)
    assert str(caught.value) == (
        f"{out}: unknown output format {out.suffix!r}; use .npy, .csv, .jsonl or .parquet"
    )


def test_a_folder_that_does_not_exist_is_refused_before_any_work(tmp_path) -> None:
    with pytest.raises(OutputError) as caught:
        check_output(tmp_path / "none" / "out.csv")
    assert str(caught.value) == (
        f"{tmp_path}/none/out.csv: its folder {tmp_path}/none does not exist; create it first"
    )


def test_a_folder_in_the_place_of_the_file_is_refused_before_any_work(tmp_path) -> None:
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(OutputError) as caught:
        check_output(tmp_path / "out.csv")
    assert str(caught.value) == f"{tmp_path}/out.csv: is a folder; name a file"


def test_standard_output_a_new_file_and_one_to_replace_are_fine(tmp_path) -> None:
    (tmp_path / "old.csv").write_text("old")
    for out in (None, tmp_path / "new.csv", tmp_path / "old.csv"):
        check_output(out)
    assert (tmp_path / "old.csv").read_text() == "old"


# --- tables --------------------------------------------------------------------------------------


def test_a_table_has_text_to_the_left_and_numbers_to_the_right() -> None:
    rows = [["artifact", "kB"], ["a.onnx", "1234.5"], ["scorer.onnx", "1"]]
    assert format_table(rows) == "artifact         kB\na.onnx       1234.5\nscorer.onnx       1"
