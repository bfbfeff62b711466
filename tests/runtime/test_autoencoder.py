import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import edgeae_runtime
from edgeae_runtime import BundleError, DataError, load, reconstruction_error

VERBS = ["score", "detect", "embed", "reconstruct"]


def told(error: type[Exception], call, *arguments) -> str:
    with pytest.raises(error) as caught:
        call(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


def result_arrays(ae, samples) -> list[np.ndarray]:
    """Everything that can be computed of some samples."""
    return [*ae.detect(samples), ae.score(samples), ae.embed(samples), ae.reconstruct(samples)]


def assert_same(found, expected, rtol: float = 0) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=0)


# --- what the numbers are ------------------------------------------------------------------------


def test_the_golden_inputs_give_the_golden_outputs(ae, golden, file_format) -> None:
    def expected(role: str, tensor: str) -> np.ndarray:
        return golden[f"{role}.{ae.precision}.{file_format}:{tensor}"]

    tolerance = {"rtol": 1e-4, "atol": 1e-5} if ae.precision == "float32" else {"rtol": 0.05, "atol": 0.02}
    inputs = golden["input"]
    np.testing.assert_allclose(ae.embed(inputs), expected("encoder", "embedding"), **tolerance)
    np.testing.assert_allclose(ae.score(inputs), expected("scorer", "error"), **tolerance)
    decoded = ae.decode(golden["embedding"])
    np.testing.assert_allclose(decoded, expected("decoder", "reconstruction"), rtol=tolerance["rtol"])


def test_the_score_is_the_mean_squared_difference_in_scaled_units(exact, rows) -> None:
    scaler = exact.manifest.scaler
    offset, gain = np.array(scaler.offset), np.array(scaler.gain)
    difference = (rows.astype(np.float64) - exact.reconstruct(rows)) * gain
    by_hand = np.square(difference).mean(axis=1)
    assert by_hand.std() > 0.1
    np.testing.assert_allclose(exact.score(rows), by_hand, rtol=1e-3)
    scaled = (rows - offset) * gain
    assert 0.9 < scaled.std() < 1.1  # so the difference above was of values near 1, whatever their units
    by_formula = reconstruction_error(scaler.scale(rows), scaler.scale(exact.reconstruct(rows)))
    np.testing.assert_allclose(by_formula, by_hand, rtol=1e-3)


def test_a_reconstruction_is_the_decoded_embedding(ae, rows) -> None:
    np.testing.assert_array_equal(ae.reconstruct(rows), ae.decode(ae.embed(rows)))


def test_reconstructions_are_in_raw_units(ae, golden) -> None:
    inputs = golden["input"]  # the training data's like, which the network knows
    spread = 1 / np.array(ae.manifest.scaler.gain)
    assert (np.abs(ae.reconstruct(inputs) - inputs) < spread).all()
    assert ae.reconstruct(inputs).dtype == np.float32


def test_healthy_readings_pass_and_broken_ones_are_found(ae, golden, rows) -> None:
    assert not ae.detect(golden["input"]).anomaly.any()
    assert ae.detect(rows).anomaly.mean() > 0.9  # each column is within its range, all of them do not fit


def test_detect_agrees_with_score_embed_and_the_threshold_of_its_own_artifact(ae, rows, file_format) -> None:
    error, anomaly, embedding, threshold = ae.detect(rows)
    scorer = ae.manifest.find("scorer", ae.precision, file_format)
    assert ae.artifact == scorer.path
    assert threshold == ae.threshold.value == scorer.threshold.value
    np.testing.assert_array_equal(error, ae.score(rows))
    np.testing.assert_array_equal(anomaly, error > threshold)
    assert 0 < anomaly.sum() < len(rows)
    tolerance = 1e-4 if ae.precision == "float32" else 0.1  # int8 encoders are quantized each for itself
    np.testing.assert_allclose(embedding, ae.embed(rows), rtol=1e-4, atol=tolerance)


def test_an_error_equal_to_the_threshold_is_no_anomaly(bundle, golden, engine) -> None:
    error = float(load(bundle.path, engine=engine).score(golden["input"]).max())
    with bundle.manifest() as manifest:
        for artifact in manifest["artifacts"]:
            artifact["threshold"]["value"] = error
    assert not load(bundle.path, engine=engine).detect(golden["input"]).anomaly.any()


# --- a row is a row, whatever its company --------------------------------------------------------


def test_one_row_gives_what_it_gives_among_a_thousand(ae, rows) -> None:
    many = result_arrays(ae, rows)
    for index in (0, 499, 999):
        error, anomaly, embedding, threshold, score, code, reconstruction = result_arrays(ae, rows[index])
        assert np.shape(error) == np.shape(anomaly) == np.shape(score) == ()
        assert np.shape(embedding) == np.shape(code) == (2,)
        one = [error, anomaly, embedding, threshold, score, code, reconstruction]
        of_many = [array if np.ndim(array) == 0 else array[index] for array in many]
        assert_same(one, of_many, rtol=1e-6)


def test_the_order_of_the_rows_is_the_order_of_the_results(ae, rows) -> None:
    order = np.random.default_rng(1).permutation(len(rows))
    many = result_arrays(ae, rows)
    shuffled = [array if np.ndim(array) == 0 else array[order] for array in many]
    assert_same(result_arrays(ae, rows[order]), shuffled, rtol=1e-6)


@pytest.mark.parametrize("count", [127, 128, 129, 257, 5000])
def test_any_number_of_rows_will_do(ae, rows, count) -> None:
    many = np.resize(rows, (count, 6))
    error, _, embedding, _, _, code, reconstruction = result_arrays(ae, many)
    assert len(error) == len(embedding) == len(code) == len(reconstruction) == count
    place = np.arange(count) % len(rows)
    np.testing.assert_allclose(error, ae.score(rows)[place], rtol=1e-6)
    np.testing.assert_allclose(reconstruction, ae.reconstruct(rows)[place], rtol=1e-6)


def test_batches_of_changing_sizes_do_not_disturb_each_other(ae, rows) -> None:
    expected = ae.score(rows)
    for start, count in [(0, 1), (1, 7), (8, 1), (9, 900), (909, 7), (916, 1), (917, 83)]:
        found = ae.score(rows[start : start + count])
        np.testing.assert_allclose(found, expected[start : start + count], rtol=1e-6)


def test_results_are_the_callers_own(ae, rows) -> None:
    first = result_arrays(ae, rows[:5])
    kept = [np.copy(array) for array in first]
    result_arrays(ae, rows[5:10])  # the same shapes, so an engine's buffer would be written again
    assert_same(first, kept)
    for array in (first[0], first[5], first[6]):
        array[:] = 0
    assert_same(result_arrays(ae, rows[:5]), kept)


# --- shapes and types ----------------------------------------------------------------------------


@pytest.fixture
def images(bundle, engine):
    """The tiny bundle made to say that a sample is 2 times 3 values."""
    with bundle.manifest() as manifest:
        manifest["input"].update(shape=[2, 3], features=None)
    return load(bundle.path, engine=engine, precision="float32")


def test_samples_may_come_shaped_flat_or_alone(images, exact, rows) -> None:
    expected = exact.detect(rows)
    for samples in (rows, rows.reshape(-1, 2, 3)):
        assert_same(images.detect(samples), expected)
        assert images.reconstruct(samples).shape == samples.shape
        np.testing.assert_array_equal(images.reconstruct(samples).reshape(-1, 6), exact.reconstruct(rows))
    one = images.detect(rows[0].reshape(2, 3))
    of_many = [expected.error[0], expected.anomaly[0], expected.embedding[0], expected.threshold]
    assert_same(one, of_many, rtol=1e-6)
    assert images.reconstruct(rows[0].reshape(2, 3)).shape == (2, 3)
    assert images.decode([0.5, 0.5]).shape == (2, 3)
    assert images.decode([[0.5, 0.5]]).shape == (1, 2, 3)


def test_what_is_expected_is_told_for_images(images) -> None:
    assert told(DataError, images.score, np.ones((4, 3, 2))) == (
        "input: expected samples of shape (2, 3), so one sample or (n, 2, 3); found (4, 3, 2)"
    )
    assert "found (6,)" in told(DataError, images.score, np.ones(6))  # one flat sample could be anything


def test_one_embedding_or_many_are_decoded(ae) -> None:
    many = ae.decode(np.array([[0.5, -1], [2, 0]]))
    assert many.shape == (2, 6)
    np.testing.assert_allclose(ae.decode([2, 0]), many[1], rtol=1e-6)


AS_FLOAT32 = [np.float64, np.float16, np.int64, np.int16, np.uint8, np.bool_, ">f4", ">i8"]


@pytest.mark.parametrize("dtype", AS_FLOAT32)
def test_numbers_of_any_type_count_as_their_float32(ae, rows, dtype) -> None:
    samples = np.clip(rows, 0, 255).astype(dtype)
    assert_same(result_arrays(ae, samples), result_arrays(ae, samples.astype(np.float32)))
    codes = samples[:, :2]
    assert_same([ae.decode(codes)], [ae.decode(codes.astype(np.float32))])


def test_any_memory_layout_will_do(ae, rows) -> None:
    expected = result_arrays(ae, rows)
    wide = np.zeros((len(rows), 12), np.float32)
    wide[:, ::2] = rows
    upside_down = np.ascontiguousarray(rows[::-1])
    for samples in (np.asfortranarray(rows), wide[:, ::2], upside_down[::-1]):
        assert_same(result_arrays(ae, samples), expected)


def test_one_sample_gives_the_same_whatever_holds_it(ae, images, rows) -> None:
    """A float32 array of the very shape takes a way of its own."""
    for row in rows[:20]:
        embedding = ae.detect(row).embedding
        wide = np.zeros(12, np.float32)
        wide[::2] = row
        for same in (wide[::2], row.tolist(), row.astype(np.float64), row.astype(">f4"), row.view(Reading)):
            found, expected = ae.detect(same), ae.detect(row)
            assert found.error == expected.error == ae.score(row)
            assert found.anomaly == expected.anomaly == (found.error > found.threshold)
            assert found.threshold == expected.threshold == ae.threshold.value
            np.testing.assert_array_equal(found.embedding, embedding)
            assert [type(a) for a in found] == [type(a) for a in expected]
        assert isinstance(expected, edgeae_runtime.Detection)
        np.testing.assert_array_equal(
            images.detect(row.reshape(2, 3)).embedding, images.detect(row[np.newaxis]).embedding[0]
        )


class Reading(np.ndarray):
    """Somebody's own kind of array."""


def test_lists_will_do(ae, rows) -> None:
    assert_same(result_arrays(ae, rows[:3].tolist()), result_arrays(ae, rows[:3]))
    assert ae.score(rows[0].tolist()).shape == ()


def test_the_samples_of_the_caller_are_left_alone(ae, rows) -> None:
    samples = rows.copy()
    result_arrays(ae, samples)
    np.testing.assert_array_equal(samples, rows)


# --- what cannot be computed is refused ----------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_by_row(ae, rows, value, dtype) -> None:
    samples = np.resize(rows, (3000, 6)).astype(dtype)
    samples[2500, 4] = value
    for verb in VERBS:
        assert told(DataError, getattr(ae, verb), samples) == (
            f"input: row 2501 holds {value}; every value must be finite"
        )
    assert told(DataError, ae.decode, samples[:, 4:]) == (
        f"embeddings: row 2501 holds {value}; every value must be finite"
    )


@pytest.mark.parametrize("column", range(6))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_noticed_in_every_column(ae, rows, column, value) -> None:
    sample = rows[0].copy()
    sample[column] = value
    for verb in VERBS:
        assert "row 1 holds" in told(DataError, getattr(ae, verb), sample)


@pytest.mark.parametrize("value", [3e21, 1e30, -1e30, 3e38])
def test_a_value_beyond_all_measure_is_an_infinite_anomaly_and_its_neighbours_are_what_they_were(
    ae, rows, value
) -> None:
    samples = rows[:5].copy()
    expected = result_arrays(ae, samples)
    samples[3, 2] = value
    for given in (samples, samples.astype(np.float64)):
        found = ae.detect(given)
        assert found.error[3] == np.inf and found.anomaly[3] and np.isnan(found.embedding[3]).all()
        np.testing.assert_array_equal(ae.score(given), found.error)
        for values, usual in zip(result_arrays(ae, given), expected, strict=True):
            if np.ndim(values):  # not the threshold
                np.testing.assert_array_equal(np.delete(values, 3, 0), np.delete(usual, 3, 0))


@pytest.mark.parametrize("value", [3e21, -1e30, 3e38])
def test_one_sample_beyond_all_measure_is_an_infinite_anomaly(ae, rows, value) -> None:
    sample = rows[0].copy()
    sample[2] = value
    for given in (sample, sample.tolist(), sample[np.newaxis][0]):
        found = ae.detect(given)
        assert found.error == ae.score(given) == np.inf and bool(found.anomaly)
        assert found.embedding.shape == (2,) and np.isnan(found.embedding).all()


def test_a_value_under_which_the_code_overflows_has_no_reconstruction(tiny, rows) -> None:
    exact = edgeae_runtime.load(tiny, engine="onnxruntime", precision="float32")
    samples = rows[:3].copy()
    samples[1] = 3e38  # scaled, this is infinite
    codes = exact.embed(samples)
    assert not np.isfinite(codes[1]).all()
    np.testing.assert_array_equal(exact.embed(samples[1]), codes[1])
    copies = exact.reconstruct(samples)
    assert np.isnan(copies[1]).all() and np.isnan(exact.reconstruct(samples[1])).all()
    np.testing.assert_array_equal(copies[[0, 2]], exact.reconstruct(samples[[0, 2]]))


def test_a_value_beyond_float32_is_refused(ae, rows) -> None:
    samples = rows[:5].astype(np.float64)
    samples[3, 1] = 1e39
    for verb in VERBS:
        assert told(DataError, getattr(ae, verb), samples) == (
            "input: row 4 holds 1e+39, which does not fit float32; rescale it or remove the row"
        )


EXPECTED = "input: expected samples of shape (6,), so one sample or (n, 6); found {}"
NUMBERS = "input: holds {}, expected real numbers; convert it to a numeric type"
EMPTY = "input: has shape (0, 6), expected (samples, values), none 0; reshape it"


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.ones((4, 5)), EXPECTED.format("(4, 5)")),
        (np.ones((4, 7), np.float32), EXPECTED.format("(4, 7)")),
        (np.ones(5), EXPECTED.format("(5,)")),
        (np.ones((2, 3, 6)), EXPECTED.format("(2, 3, 6)")),
        (3.0, EXPECTED.format("()")),
        ([], EXPECTED.format("(0,)")),
        (np.ones((0, 6)), EMPTY),
        (np.ones((0, 6), np.float32), EMPTY),
        ([["1"] * 6], NUMBERS.format("<U1")),
        ([[None] * 6], NUMBERS.format("object")),
        (np.ones((2, 6), complex), NUMBERS.format("complex128")),
        ([[1, 2], [3]], "input: does not make an array; give numbers, in samples of one shape"),
    ],
)
def test_what_is_no_sample_is_refused(ae, samples, reason) -> None:
    for verb in VERBS:
        assert told(DataError, getattr(ae, verb), samples) == reason


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        (np.ones((4, 3)), "embeddings: expected (2,) or (n, 2), found (4, 3)"),
        (np.ones((4, 1, 2)), "embeddings: expected (2,) or (n, 2), found (4, 1, 2)"),
        (1.0, "embeddings: expected (2,) or (n, 2), found ()"),
        (np.ones((0, 2)), "embeddings: has shape (0, 2), expected (samples, values), none 0; reshape it"),
        ([[1, 2], [3]], "embeddings: does not make an array; give numbers, in samples of one shape"),
    ],
)
def test_what_is_no_embedding_is_refused(ae, codes, reason) -> None:
    assert told(DataError, ae.decode, codes) == reason


# --- which artifact is run -----------------------------------------------------------------------


def test_by_default_onnx_runtime_runs_int8(tiny) -> None:
    ae = load(tiny)
    assert (ae.engine, ae.precision) == ("onnxruntime", "int8")
    assert load(str(tiny)).manifest == ae.manifest


@pytest.mark.parametrize(
    ("part", "engine", "precision"),
    [
        (".tflite", "litert", "int8"),
        (".float32.onnx", "onnxruntime", "float32"),
        (".float32.tflite", "litert", "float32"),
    ],
)
def test_the_default_is_the_best_of_what_is_there(bundle, rows, part, engine, precision) -> None:
    bundle.keep(part)
    ae = load(bundle.path)
    assert (ae.engine, ae.precision) == (engine, precision)
    assert ae.score(rows).shape == (1000,)


@pytest.mark.parametrize(
    ("part", "asked"),
    [
        (".tflite", {"engine": "onnxruntime"}),
        (".onnx", {"engine": "litert"}),
        (".float32.", {"precision": "int8"}),
        (".", {"precision": "float16"}),
        (".", {"engine": "litert", "precision": "dynamic"}),
        (".", {"engine": "tensorrt"}),
    ],
)
def test_what_the_bundle_does_not_have_is_told_with_what_it_has(bundle, part, asked) -> None:
    bundle.keep(part)
    held = ", ".join(a.path for a in edgeae_runtime.Bundle(bundle.path).manifest.artifacts)
    wanted = {"engine": "auto", "precision": "auto", **asked}
    assert told(BundleError, lambda: load(bundle.path, **asked)) == (
        f"{bundle.path}: has nothing of precision {wanted['precision']} for engine {wanted['engine']}; "
        f"it holds {held}"
    )


def test_a_bundle_without_a_role_serves_the_others(bundle, rows, engine) -> None:
    bundle.keep("scorer.int8.")
    ae = load(bundle.path, engine=engine)
    assert ae.detect(rows).embedding.shape == (1000, 2)
    assert told(BundleError, ae.embed, rows) == (
        f"{bundle.path}: has no encoder of precision int8 for {engine}; "
        "it holds scorer.int8.onnx, scorer.int8.tflite"
    )
    assert "has no decoder of precision int8" in told(BundleError, ae.decode, [1, 2])


def test_the_bare_network_for_microcontrollers_is_not_taken_for_a_choice(bundle) -> None:
    bundle.keep("encoder.int8.tflite")
    with bundle.manifest() as manifest:
        manifest["artifacts"][0]["role"] = "autoencoder"
    assert "has nothing of precision auto for engine auto" in told(BundleError, lambda: load(bundle.path))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_no_bit(tiny, rows, ae, threads) -> None:
    other = load(tiny, engine=ae.engine, precision=ae.precision, threads=threads)
    assert_same(result_arrays(other, rows), result_arrays(ae, rows))


def test_without_the_arena_results_are_the_same(tiny, rows, ae) -> None:
    other = load(tiny, engine=ae.engine, precision=ae.precision, arena=False)
    assert_same(result_arrays(other, rows), result_arrays(ae, rows))
    assert_same(result_arrays(other, rows[0]), result_arrays(ae, rows[0]))


@pytest.fixture
def hasty():
    """Python changes threads as often as it can, so that what is not guarded shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_eight_threads_at_once_get_what_one_gets(tiny, rows, engine, precision) -> None:
    ae = load(tiny, engine=engine, precision=precision)  # fresh, so they also load it at once
    parts = [rows[i * 100 : i * 100 + i % 4 + 1] for i in range(6)]  # of few sizes: a mix-up need not fail
    parts += [rows[700], rows[800]]  # on the way for one sample
    start = threading.Barrier(8)

    def work(part: np.ndarray) -> list[list[np.ndarray]]:
        start.wait()
        return [result_arrays(ae, part) for _ in range(50)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, parts))
    for part, results in zip(parts, found, strict=True):
        expected = result_arrays(ae, part)
        for result in results:
            assert_same(result, expected, rtol=1e-6)


# --- what is shown -------------------------------------------------------------------------------


def test_a_detection_goes_into_json_as_the_numbers_it_holds(exact, rows) -> None:
    for samples in (rows[0], rows[:7]):
        found = exact.detect(samples)
        again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert list(again) == ["error", "anomaly", "embedding", "threshold"]
        assert type(again["anomaly"]) is (bool if samples.ndim == 1 else list)
        for name, value in again.items():
            np.testing.assert_array_equal(np.asarray(value, np.float64), np.float64(getattr(found, name)))


def test_what_overflows_is_null_in_json_and_still_an_anomaly(exact, rows) -> None:
    extreme = np.stack([rows[0], np.full_like(rows[0], 1e38)])
    found = exact.detect(extreme)
    assert np.isinf(found.error[1])
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (again["error"][1], again["anomaly"][1], set(again["embedding"][1])) == (None, True, {None})
    assert again["error"][0] == found.error[0]


def test_objects_print_as_one_short_line_with_what_tells_them_apart(exact, tiny, rows) -> None:
    one, many = exact.detect(rows[0]), exact.detect(rows)
    assert repr(one).startswith(f"Detection(error={float(one.error):.6g}, anomaly={bool(one.anomaly)}, ")
    assert f"embedding=<1000 x {many.embedding.shape[1]} float32>" in repr(many)
    stream = exact.stream()
    stream.push(rows[0])
    bundle = edgeae_runtime.Bundle(str(tiny))
    for thing, parts in {
        exact: (str(tiny), exact.engine, "float32", "threads=1"),
        stream: (stream.artifact, f"{stream.threshold:.6g}", "samples=1"),
        bundle: (f"Bundle({str(tiny)!r})",),
    }.items():
        assert all(part in repr(thing) for part in parts)
    for thing in (one, many, exact, stream, bundle):
        shown = repr(thing).replace(str(tiny), "")
        assert len(shown) < 250 and "\n" not in shown and type(thing).__name__ in shown


def test_the_old_name_of_a_detector_is_the_same_class() -> None:
    assert edgeae_runtime.Autoencoder is edgeae_runtime.Detector
    assert "edgeae_runtime.Autoencoder" in (edgeae_runtime.Detector.__doc__ or "")
