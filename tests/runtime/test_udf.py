import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from edgeae_runtime import BundleError, DataError, load, udf

COLUMNS = ["temperature", "pressure", "vibration", "voltage", "current", "speed"]


@pytest.fixture
def frame(rows) -> pd.DataFrame:
    """Readings with a key, in columns of another order than the bundle's, and an index that is no range."""
    frame = pd.DataFrame(rows, columns=COLUMNS)[COLUMNS[::-1]]
    frame["id"] = [f"pump {i}" for i in range(len(frame))]
    return frame.set_axis(range(5, 5 + len(frame)))


@pytest.mark.parametrize("embedding", [False, True])
def test_a_frame_in_pandas_or_arrow_becomes_what_the_library_detects(tiny, rows, frame, embedding) -> None:
    score = udf.scorer(tiny, keep=["id"], embedding=embedding, precision="float32")
    expected = load(tiny, engine=score.engine, precision="float32").detect(rows)
    found = score(frame)
    assert found.index.equals(frame.index)
    (same,) = score.pandas(iter([frame]))
    pd.testing.assert_frame_equal(same, found)
    batches = pa.Table.from_pandas(frame).to_batches(max_chunksize=300)
    arrow = pa.Table.from_batches(score.arrow(iter(batches))).to_pandas()
    for table in (found, arrow):
        codes = ["embedding_0", "embedding_1"] if embedding else []
        assert list(table) == ["id", "error", "anomaly", *codes]
        assert table["id"].tolist() == frame["id"].tolist()
        assert table["error"].dtype == np.float32 and table["anomaly"].dtype == bool
        np.testing.assert_allclose(table["error"], expected.error, rtol=1e-5)
        np.testing.assert_array_equal(table["anomaly"], expected.anomaly)
        if embedding:
            np.testing.assert_allclose(table[codes], expected.embedding, rtol=1e-4, atol=1e-6)
    assert (
        score.schema == "error float, anomaly boolean" + ", embedding_0 float, embedding_1 float" * embedding
    )


def test_it_runs_on_the_engine_that_is_asked_for(tiny, rows, frame, engine) -> None:
    score = pickle.loads(pickle.dumps(udf.scorer(tiny, engine=engine, precision="int8")))
    assert score.engine == engine
    expected = load(tiny, engine=engine, precision="int8").score(rows)
    np.testing.assert_allclose(score(frame)["error"], expected, rtol=1e-5)


def test_an_empty_partition_gives_an_empty_result_of_the_same_types(tiny, frame) -> None:
    score = udf.scorer(tiny, keep=["id"], embedding=True)
    assert score(frame[:0]).dtypes.equals(score(frame[:9]).dtypes)
    assert len(score(frame[:0])) == 0


def test_pickled_it_is_small_and_another_process_loads_the_bundle_once(tiny, frame, tmp_path) -> None:
    score = udf.scorer(tiny, keep=["id"])
    score(frame[:9])  # loaded here
    content = pickle.dumps(score)
    assert len(content) < 1000 and pickle.loads(content) == score
    frame.to_pickle(tmp_path / "frame")
    (tmp_path / "score").write_bytes(content)
    code = (
        "import pickle, pandas as pd; from edgeae_runtime import udf\n"
        "score = pickle.load(open('score', 'rb')); frame = pd.read_pickle('frame')\n"
        "found = pd.concat([score(frame[:500]), score(frame[500:])])\n"
        "assert udf._load.cache_info().misses == 1\n"
        "found.to_pickle('found')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    expected = pd.concat([score(frame[:500]), score(frame[500:])])
    pd.testing.assert_frame_equal(pd.read_pickle(tmp_path / "found"), expected)


def test_a_bundle_that_was_replaced_is_refused_by_the_old_scorer_and_taken_by_a_new_one(
    bundle, frame
) -> None:
    old = udf.scorer(bundle.path)
    before = old(frame)
    assert not before["anomaly"].all()
    with bundle.manifest() as manifest:
        for artifact in manifest["artifacts"]:
            if artifact["role"] == "scorer":
                artifact["threshold"]["value"] = 1e-9
    assert udf.scorer(bundle.path)(frame)["anomaly"].all()
    pd.testing.assert_frame_equal(old(frame), before)  # it is still loaded here
    udf._load.cache_clear()  # as in another worker
    with pytest.raises(BundleError, match=r"pump\.edgeae: is not the one that the scorer was made from"):
        old(frame)


def test_a_bundle_of_windows_takes_a_column_of_whole_samples(bundle, rows) -> None:
    with bundle.manifest() as manifest:
        manifest["input"] = {"shape": [3, 2], "features": ["heat", "load"], "window": 3, "stride": 1}
        scaler = manifest["scaler"]
        scaler["offset"], scaler["gain"] = scaler["offset"][:2], scaler["gain"][:2]
    with pytest.raises(DataError, match=r"takes samples of shape \(3, 2\), not rows of named columns"):
        udf.scorer(bundle.path)
    score = udf.scorer(bundle.path, columns=["window"])
    expected = load(bundle.path, engine=score.engine, precision=score.precision).score(rows)
    np.testing.assert_array_equal(score(pd.DataFrame({"window": list(rows)}))["error"], expected)
    batch = pa.RecordBatch.from_pydict({"window": rows.tolist()})
    np.testing.assert_array_equal(next(score.arrow([batch]))["error"].to_numpy(), expected)
    with pytest.raises(DataError, match="column 'window' holds samples of several sizes"):
        score(pd.DataFrame({"window": [rows[0], rows[1, :3]]}))


def test_what_is_wrong_with_a_batch_is_told(tiny, frame) -> None:
    score = udf.scorer(tiny)
    with pytest.raises(DataError, match="the batch has no column 'speed'"):
        score(frame.drop(columns="speed"))
    frame.iloc[3, 0] = np.nan
    with pytest.raises(DataError, match="input: row 4 holds nan; every value must be finite"):
        score(frame)


def test_a_value_beyond_all_measure_is_an_infinite_anomaly_of_its_row_alone(tiny, frame) -> None:
    score = udf.scorer(tiny, embedding=True)
    expected = score(frame).drop(index=frame.index[3])
    frame.iloc[3, 0] = 3e38
    found = score(frame)
    assert found["error"].iloc[3] == np.inf and found["anomaly"].iloc[3]
    pd.testing.assert_frame_equal(found.drop(index=frame.index[3]), expected)
