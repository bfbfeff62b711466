import gzip
import json
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import comb
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer, load_digits
from threadpoolctl import threadpool_info

import edgeae.evaluation.evaluate
from edgeae.cli.evaluate import evaluate as command
from edgeae.config import NOISES
from edgeae.data.labels import read_labels
from edgeae.evaluation.baselines import forest_scores, identity_subject, pca_subject
from edgeae.evaluation.context import LEVELS, are_images
from edgeae.evaluation.evaluate import STEPS, evaluate
from edgeae.evaluation.figures import MEASURES, Evaluation
from edgeae.evaluation.files import evaluate_files, read_samples
from edgeae.evaluation.ground_truth import Samples, Truth, anomalous_rows, runs_of
from edgeae.evaluation.measures.detection import detection
from edgeae.evaluation.measures.downstream import downstream
from edgeae.evaluation.measures.kl import kl_terms
from edgeae.evaluation.measures.robustness import robustness
from edgeae.evaluation.split import halves
from edgeae.evaluation.tables import as_text, tables
from edgeae.training.noise import corrupt
from edgeae_runtime import DataError, EdgeaeError, Input, Scaler, load

TINY = Path(__file__).parents[2] / "runtime" / "tiny.edgeae"
UNSCALED = Scaler(kind="none", offset=(0.0,), gain=(1.0,))
DIGITS = load_digits()


@pytest.fixture(scope="module")
def evaluation(trained, digits):
    """Of the small autoencoder, on all digits with their labels."""
    return evaluate(trained.source, digits.values, labels=DIGITS.target, fit_rows=digits.values[:900])


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "digits.run"
    trained.save(folder)
    return folder


def by_hand(trained, rows):
    """Scaled rows and their reconstruction, by Keras alone."""
    scaled = (rows - trained.scaler.offset[0]) * trained.scaler.gain[0]
    flat = scaled.reshape(len(rows), -1)
    return flat, np.float64(trained.model.predict(flat, verbose=0))


# --- the error -----------------------------------------------------------------------------------


def test_the_error_figures_are_those_of_numpy(evaluation, trained, digits):
    figures = evaluation.error[0]
    scaled, copies = by_hand(trained, digits.values)
    errors = np.mean((scaled - copies) ** 2, axis=1)
    assert figures.name == "keras"
    assert figures.mse == pytest.approx(errors.mean(), rel=1e-5)
    assert figures.mae == pytest.approx(np.abs(scaled - copies).mean(), rel=1e-5)
    for share, value in figures.quantiles.items():
        assert value == pytest.approx(np.quantile(errors, float(share)), rel=1e-4)
    raw = np.mean(((scaled - copies) / trained.scaler.gain[0]) ** 2)
    peak = digits.values.max() - digits.values.min()
    assert figures.psnr == pytest.approx(20 * np.log10(peak) - 10 * np.log10(raw), rel=1e-5)


def test_the_threshold_of_a_run_comes_from_its_held_out_rows(evaluation, trained, digits):
    scaled, copies = by_hand(trained, trained.held_out)
    expected = np.quantile(np.mean((scaled - copies) ** 2, axis=1), 0.99)
    figures = evaluation.error[0]
    assert figures.threshold == pytest.approx(expected, rel=1e-4)
    scaled, copies = by_hand(trained, digits.values)
    above = np.mean(np.mean((scaled - copies) ** 2, axis=1) > figures.threshold)
    assert figures.above == pytest.approx(above, abs=2 / len(digits.values))


def test_the_histogram_holds_every_row_once_and_ends_at_the_largest_error(evaluation):
    for figures in evaluation.error:
        assert sum(figures.bin_counts) == evaluation.rows == 1797
        assert list(figures.bin_edges) == sorted(figures.bin_edges)
        assert figures.bin_edges[-1] == pytest.approx(figures.quantiles["1.0"])


def test_pca_stands_beside_with_the_error_of_a_singular_value_decomposition(evaluation, trained, digits):
    scaled, _ = by_hand(trained, digits.values)
    mean = scaled[:900].mean(axis=0)
    _, _, directions = np.linalg.svd(scaled[:900] - mean, full_matrices=False)
    kept = (scaled - mean) @ directions[:8].T @ directions[:8] + mean
    pca = evaluation.error[1]
    assert pca.name == "PCA-8" and pca.threshold is None
    assert pca.mse == pytest.approx(np.mean((scaled - kept) ** 2), rel=1e-4)


def test_the_compression_counts_values_and_bytes(evaluation, trained, digits):
    found = evaluation.compression
    assert (found.input_values, found.code_values, found.values) == (64, 8, 8.0)
    assert (found.input_bytes, found.code_bytes, found.bytes) == (256, 32, 8.0)
    bytes_ = evaluate(trained.source, np.uint8(digits.values[:50]), noise=()).compression
    assert (bytes_.input_bytes, bytes_.bytes) == (64, 2.0)


@pytest.mark.parametrize(
    ("shape", "series", "expected"),
    [
        ((8, 8), False, True),
        ((8, 8, 3), False, True),
        ((60, 1), False, False),
        ((60, 8), True, False),
        ((30,), False, False),
        ((8, 8, 7), False, False),
    ],
)
def test_an_image_is_told_from_a_window_and_a_row(shape, series, expected):
    assert are_images(shape, series=series) is expected


# --- noise ---------------------------------------------------------------------------------------


def noise_power(kind, level, rows):
    """What the noise adds to a copy of the rows, as the formula says."""
    if kind == "gaussian":
        return level**2
    if kind == "masking":
        return level * np.mean(rows**2)
    low, high = rows.min(), rows.max()
    return level * np.mean((rows - low) ** 2 + (rows - high) ** 2) / 2


@pytest.mark.parametrize("kind", NOISES)
def test_a_copy_of_the_input_has_the_error_of_the_noise_itself(kind):
    rows = np.float32(np.random.default_rng(0).uniform(10, 30, (4000, 20)))
    scaler = Scaler(kind="minmax", offset=(10.0,), gain=(0.05,))
    (curve,) = robustness([identity_subject(scaler)], scaler, rows, kinds=(kind,))
    expected = [noise_power(kind, level, np.float64(scaler.scale(rows))) for level in LEVELS]
    assert curve.mse[0] == 0
    np.testing.assert_allclose(curve.mse, expected, rtol=0.03)  # 80,000 values: four standard errors


@settings(deadline=None)  # the machine may be busy
@given(
    kind=st.sampled_from(NOISES),
    level=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 40),
)
def test_noise_leaves_shape_and_type_and_hits_no_value_without_need(kind, level, seed, rows):
    clean = np.float32(np.random.default_rng(1).uniform(-1, 2, (rows, 3, 5)))
    noisy = corrupt(clean, kind, level, np.random.default_rng(seed))
    assert noisy.shape == clean.shape and noisy.dtype == np.float32
    if kind == "masking":
        assert np.all((noisy == clean) | (noisy == 0))
    if kind == "salt-and-pepper":
        assert np.all((noisy == clean) | (noisy == clean.min()) | (noisy == clean.max()))
    if level == 0:
        np.testing.assert_array_equal(noisy, clean)


def test_a_clean_input_gives_the_plain_error_and_pca_loses_what_it_leaves_out(evaluation):
    curves = {(c.noise, c.name): c for c in evaluation.robustness}
    assert {name for _, name in curves} == {"keras", "PCA-8", "identity copy"}
    assert curves["gaussian", "keras"].mse[0] == pytest.approx(evaluation.error[0].mse, rel=0.1)
    # of isotropic noise a projection to 8 of 64 directions keeps an eighth: Pythagoras
    pca = curves["gaussian", "PCA-8"]
    for level, mse in zip(pca.levels, pca.mse, strict=True):
        assert mse == pytest.approx(pca.mse[0] + level**2 / 8, rel=0.05)


def test_every_subject_is_under_the_same_noise_and_the_seed_decides_it():
    rows = np.float32(np.random.default_rng(0).normal(size=(50, 6)))
    copies = [identity_subject(UNSCALED), identity_subject(UNSCALED)]
    first = robustness(copies[:1], UNSCALED, rows, seed=1)
    assert first == robustness(copies[:1], UNSCALED, rows, seed=1)
    assert first != robustness(copies[:1], UNSCALED, rows, seed=2)


# --- classes -------------------------------------------------------------------------------------


def test_the_code_is_measured_beside_pca_and_the_raw_input(evaluation):
    found = evaluation.downstream
    assert [(u.name, u.values) for u in found.found] == [("keras", 8), ("PCA-8", 8), ("raw input", 64)]
    assert (found.classes, found.train_rows + found.test_rows) == (10, 1797)
    assert all(u.linear_probe > 0.7 and u.nearest_neighbours > 0.8 for u in found.found)


def test_the_five_neighbours_are_those_of_brute_force(digits):
    values, labels = digits.values[:600].reshape(600, -1), DIGITS.target[:600]
    train, test = halves(labels, 0)
    (found,) = downstream({"raw": values}, labels, train, test).found
    hits = 0
    for row, label in zip(values[test], labels[test], strict=True):
        nearest = np.argsort(np.sum((values[train] - row) ** 2, axis=1), kind="stable")[:5]
        hits += np.argmax(np.bincount(labels[train][nearest])) == label
    assert found.nearest_neighbours == pytest.approx(hits / len(test), abs=2 / len(test))  # ties


def test_separate_blobs_are_found_and_shuffled_labels_are_not():
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], 100)
    blobs = rng.normal(size=(300, 4)) + 20 * np.eye(3)[np.repeat([0, 1, 2], 100)] @ np.eye(3, 4)
    (told,) = downstream({"blobs": blobs}, labels, *halves(labels, 0)).found
    assert (told.linear_probe, told.nearest_neighbours) == (1, 1)
    assert (told.adjusted_rand, told.mutual_information) == (pytest.approx(1), pytest.approx(1))
    mixed = rng.permutation(labels)
    result = downstream({"blobs": blobs}, mixed, *halves(mixed, 0))
    assert result.majority == pytest.approx(1 / 3)
    (told,) = result.found
    assert abs(told.linear_probe - 1 / 3) < 0.13  # four standard errors of 150 rows
    assert abs(told.adjusted_rand) < 0.05 and told.mutual_information < 0.1


def test_the_adjusted_rand_index_counts_pairs():
    # two clusters are certain; the labels put one row of each into the other class
    values = np.repeat([[0.0], [9.0]], 5, axis=0)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])
    both, every = np.tile(values, (2, 1)), np.tile(labels, 2)
    (found,) = downstream({"x": both}, every, np.arange(10), np.arange(10, 20)).found
    cells, sums, pairs = [4, 1, 1, 4], [5, 5], comb(10, 2)
    together, each = sum(comb(c, 2) for c in cells), sum(comb(s, 2) for s in sums)
    by_chance = each**2 / pairs
    assert found.adjusted_rand == pytest.approx((together - by_chance) / (each - by_chance))


@settings(deadline=None)
@given(seed=st.integers(0, 1000), counts=st.lists(st.integers(2, 40), min_size=2, max_size=5))
def test_halves_are_disjoint_complete_and_hold_every_class(seed, counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    train, test = halves(labels, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        assert abs(np.sum(labels[train] == label) - count / 2) <= 1


def test_halves_of_a_series_are_in_order_of_time_and_share_no_reading():
    train, test = halves(np.zeros(100), 0, in_time=7)
    assert (train[0], train[-1], test[0], test[-1]) == (0, 42, 50, 99)


# --- anomalies -----------------------------------------------------------------------------------


SCORES = st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: 0 < sum(a for _, a in rows) < len(rows)
)


@settings(deadline=None)
@given(rows=SCORES, threshold=st.integers(-1, 31))
def test_detection_is_what_counting_gives(rows, threshold):
    scores, anomalous = np.float64([s for s, _ in rows]), np.array([a for _, a in rows])
    found = detection("x", scores, threshold, Truth(anomalous))
    pairs = scores[anomalous][:, np.newaxis] - scores[~anomalous]
    assert found.roc_auc == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    steps = [(scores >= s) for s in sorted(set(scores), reverse=True)]
    recalls = [0, *(np.mean(s[anomalous]) for s in steps)]
    precisions = [np.mean(anomalous[s]) for s in steps]
    assert found.average_precision == pytest.approx(np.sum(np.diff(recalls) * precisions))
    hits, alarms = np.sum(scores[anomalous] > threshold), np.sum(scores > threshold)
    assert found.precision == pytest.approx(hits / alarms if alarms else 0)
    assert found.recall == pytest.approx(hits / anomalous.sum())
    assert found.f1 == pytest.approx(2 * hits / (alarms + anomalous.sum()))
    assert found.false_alarms == pytest.approx(np.mean(scores[~anomalous] > threshold))
    assert found.missed == pytest.approx(1 - found.recall)


@settings(deadline=None)
@given(rows=SCORES, seed=st.integers(0, 100))
def test_neither_the_order_of_the_rows_nor_the_unit_of_the_score_matters(rows, seed):
    scores, anomalous = np.float64([s for s, _ in rows]), np.array([a for _, a in rows])
    order = np.random.default_rng(seed).permutation(len(rows))
    one = detection("x", scores, 10, Truth(anomalous))
    assert detection("x", scores[order], 10, Truth(anomalous[order])) == one
    other = detection("x", np.exp(scores / 7), float(np.exp(10 / 7)), Truth(anomalous))
    assert msgspec.structs.replace(other, threshold=one.threshold) == one


def hours(*values):
    return np.datetime64("2024-05-01T00:00") + np.array(values) * np.timedelta64(60, "m")


def test_a_series_tells_delay_alarms_and_false_events():
    labels = np.array([0, 1, 1, 1, 0, 0, 0, 0, 1, 1], bool)
    scores = np.array([0, 0, 5, 5, 5, 0, 7, 7, 0, 0], float)
    found = detection("x", scores, 1, Truth(labels, series=True, timestamps=hours(*range(10))))
    first, second = found.episodes
    assert (first.start, first.end) == ("2024-05-01 01:00:00", "2024-05-01 03:00:00")
    assert (first.rows, first.alarms, first.delay) == (3, 2, 3600)
    assert (second.rows, second.alarms, second.delay) == (2, 0, None)
    assert found.false_events == 1  # the run that goes on after the first episode touches it


def test_without_times_a_delay_is_counted_in_rows():
    labels, scores = np.array([0, 1, 1, 1], bool), np.array([0, 0, 0, 9.0])
    (episode,) = detection("x", scores, 1, Truth(labels, series=True)).episodes
    assert (episode.start, episode.end, episode.delay) == ("2", "4", 2)


def test_a_period_reaches_as_far_as_windows_that_hold_some_of_it(trained, digits):
    rows = digits.values[:12]
    period = np.array([hours(3, 5)])
    samples = Samples(
        rows, timestamps=hours(*range(12)), periods=period, series=True, span=np.timedelta64(120, "m")
    )
    found = evaluate(trained.source, samples, noise=())
    (episode,) = found.detection[0].episodes
    assert (episode.start, episode.end) == ("2024-05-01 03:00:00", "2024-05-01 05:00:00")
    assert episode.rows == 5  # those that end at 3 to 7 o'clock
    assert found.downstream is None


@settings(deadline=None)
@given(flags=st.lists(st.booleans(), max_size=30))
def test_runs_are_the_maximal_stretches(flags):
    found = runs_of(np.array(flags, bool))
    assert [i for run in found for i in run] == [i for i, flag in enumerate(flags) if flag]
    assert all(b[0] - a[-1] > 1 for a, b in pairwise(found))


@pytest.mark.parametrize(
    ("labels", "normal", "expected"),
    [
        ([0, 1, 1], None, [False, True, True]),
        (["ok", "hot", "ok"], "ok", [False, True, False]),
        ([3, 4, 5], "4", [True, False, True]),
        ([3, 4, 5], None, None),
    ],
)
def test_which_rows_are_anomalies(labels, normal, expected):
    found = anomalous_rows(np.array(labels), normal)
    assert found is None if expected is None else found.tolist() == expected


def test_tumours_are_told_by_a_model_of_healthy_cells_and_the_baselines_stand_beside(cells, trained):
    bunch = load_breast_cancer()
    rows = cells.values
    healthy = rows[bunch.target == 1]
    scaler = Scaler(kind="standard", offset=tuple(healthy.mean(0)), gain=tuple(1 / healthy.std(0)))
    forest = forest_scores(scaler, healthy[:200])
    truth = Truth(bunch.target == 0)
    assert detection("forest", forest(rows), 0, truth).roc_auc > 0.9
    pca = pca_subject(scaler, healthy[:200], 5)
    assert detection("pca", pca.reconstruct(rows)[1], 0, truth).roc_auc > 0.9


def test_digits_that_were_never_seen_are_anomalies_to_every_score(trained, digits):
    rows, is_one = digits.values[:500], np.where(DIGITS.target == 1, "one", "other")[:500]
    asked = {"labels": is_one, "normal": "one", "noise": ()}
    found = evaluate(trained.source, rows, fit_rows=rows[:300], **asked)
    assert [d.name for d in found.detection] == ["keras", "PCA-8 reconstruction", "isolation forest"]
    alone = evaluate(trained.source, rows, **asked)
    assert [d.name for d in alone.detection] == ["keras"]
    assert alone.detection[0] == found.detection[0]
    assert found.downstream.classes == 2


@pytest.mark.parametrize(
    ("labels", "normal", "message"),
    [
        (np.zeros(100, int), None, "labels: all 100 rows are '0'; expected at least two classes; give rows"),
        (np.zeros(100, int), "0", "labels: all 100 rows are normal (the labels are 0); detection needs"),
        (np.zeros(100, int), "ok", "labels: all 100 rows are anomalous (the labels are 0); detection needs"),
        (np.arange(100), None, "labels: only one row is '0'; every class needs one to train and one to test"),
        (np.zeros(99, int), None, "labels: found 99, expected one for each of 100 rows"),
        (None, "ok", "the normal label is said to be 'ok', but there are no labels; pass some"),
    ],
)
def test_labels_that_do_not_do_are_told_in_one_line(trained, digits, labels, normal, message):
    with pytest.raises(DataError) as told:
        evaluate(trained.source, digits.values[:100], labels=labels, normal=normal)
    assert str(told.value).startswith(message) and "\n" not in str(told.value)


def test_rows_of_another_shape_are_refused(trained):
    with pytest.raises(
        DataError, match=r"the data: found \(5, 63\), the model takes samples of shape \(8, 8\)"
    ):
        evaluate(trained.source, np.zeros((5, 63), np.float32))


# --- the variational term -------------------------------------------------------------------------


class Posterior:
    """Gives the same log-variance for every row."""

    input_shape = (None, 3)

    def __init__(self, log_variance):
        self.log_variance = log_variance

    def predict_on_batch(self, rows):
        return np.tile(np.float32(self.log_variance), (len(rows), 1))


def test_the_kl_term_is_the_integral_that_it_stands_for():
    means, log_variance = [0.7, -1.2, 0.0], [-1.5, 0.4, 0.0]

    def integrand(x, mean, deviation):
        density = norm.pdf(x, mean, deviation)
        return density * (norm.logpdf(x, mean, deviation) - norm.logpdf(x))

    expected = [
        quad(integrand, -15, 15, (m, np.exp(v / 2)))[0] for m, v in zip(means, log_variance, strict=True)
    ]
    found = kl_terms(UNSCALED, Posterior(log_variance), np.tile(np.float32(means), (4, 1)), np.zeros((4, 3)))
    assert found == pytest.approx(expected, abs=1e-5)
    assert found[2] == pytest.approx(0, abs=1e-6)


# --- a bundle, and files -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def readings():
    rows = np.load(TINY / "golden.npz")["input"]
    return np.repeat(rows, 5, axis=0) + np.float32(
        np.random.default_rng(0).normal(0, 0.01, (5 * len(rows), 6))
    )


def test_of_a_bundle_every_scorer_is_evaluated_with_its_own_threshold(readings):
    found = evaluate(TINY, readings, noise=("gaussian",))
    names = ["float32.onnx", "int8.onnx", "float32.tflite", "int8.tflite"]
    assert [e.name for e in found.error] == names
    for figures in found.error:
        precision, _, kind = figures.name.partition(".")
        engine = {"onnx": "onnxruntime", "tflite": "litert"}[kind]
        autoencoder = load(TINY, engine=engine, precision=precision)
        assert figures.threshold == autoencoder.threshold.value
        assert figures.mse == pytest.approx(float(autoencoder.score(readings).mean()), rel=1e-5)
        copies = autoencoder.reconstruct(readings)
        scaler = autoencoder.manifest.scaler
        difference = np.float64(scaler.scale(readings)) - scaler.scale(copies)
        assert figures.mae == pytest.approx(np.abs(difference).mean(), rel=1e-4)
    assert {c.name for c in found.robustness} == {*names, "PCA-2", "identity copy"}
    assert found.fit_rows == 0


def test_columns_that_have_names_are_taken_by_name(readings):
    names = load(TINY).manifest.input.features
    mixed = pd.DataFrame(readings, columns=names)[[*names[::-1]]].assign(label="ok")
    found = evaluate(TINY, mixed, fit_rows=mixed, noise=())
    assert found == evaluate(TINY, readings, fit_rows=readings, noise=())
    with pytest.raises(DataError, match=r"^the rows to fit on: has no column 'speed', found "):
        evaluate(TINY, mixed, fit_rows=mixed.drop(columns="speed"), noise=())


def test_a_row_beyond_all_measure_is_named_rather_than_averaged(readings):
    rows = readings.copy()
    rows[7, 2] = 3e30
    with pytest.raises(
        DataError, match=r"^input: row 8 is so far from the training data that its error is inf"
    ):
        evaluate(TINY, rows, noise=())


def test_a_run_on_disk_gives_what_the_model_in_memory_gives(run, trained, digits, tmp_path):
    rows, labels = digits.values[:500], DIGITS.target[:500]
    np.save(tmp_path / "x.npy", rows)
    np.save(tmp_path / "y.npy", labels)
    found = evaluate_files(run, tmp_path / "x.npy", labels=tmp_path / "y.npy", noise=("masking",))
    held_out = trained.held_out
    expected = evaluate(trained.source, rows, labels=labels, fit_rows=held_out, noise=("masking",))
    assert found.evaluation.fit_rows == len(held_out)
    assert found.evaluation.error[0].mse == pytest.approx(expected.error[0].mse, rel=1e-5)
    assert found.evaluation.downstream.found[1] == expected.downstream.found[1]


def test_the_command_prints_tables_and_writes_json(run, digits, tmp_path):
    np.save(tmp_path / "y.npy", DIGITS.target[:500])
    np.save(tmp_path / "x.npy", digits.values[:500])
    options = {"--labels": "y.npy", "--normal": "3", "--noise": "gaussian", "--json": "e.json"}
    files = {k: str(tmp_path / v) if "." in v else v for k, v in options.items()}
    arguments = [str(run), str(tmp_path / "x.npy"), *chain(*files.items())]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    for title in ("Reconstruction error", "Anomaly detection", "What the code is good for", "gaussian noise"):
        assert title in done.output
    assert "masking" not in done.output
    found = msgspec.json.decode((tmp_path / "e.json").read_bytes(), type=Evaluation)
    assert found.rows == 500 and len(found.detection) == 3
    assert as_text(found) == done.output.rstrip("\n")


def test_progress_names_each_step_and_every_measure_has_its_figures(readings, tmp_path, capfd):
    np.save(tmp_path / "x.npy", readings)
    steps = []
    evaluate_files(TINY, tmp_path / "x.npy", noise=(), progress=steps.append)
    fields = [measure.field for measure in MEASURES]
    assert steps == ["codes and errors", *fields] and len(steps) == STEPS
    assert {*fields, "rows", "fit_rows"} == {*Evaluation.__struct_fields__}
    assert capfd.readouterr() == ("", "")


def test_linear_algebra_has_one_thread_while_it_is_measured_and_all_of_them_after(readings, monkeypatch):
    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    seen, before = [], threads()
    real = MEASURES[0].compute
    spied = replace(MEASURES[0], compute=lambda context: seen.append(threads()) or real(context))
    monkeypatch.setattr(edgeae.evaluation.evaluate, "MEASURES", (spied, *MEASURES[1:]))
    evaluate(TINY, readings, noise=())
    assert seen == [{1}] and threads() == before


def test_every_row_of_a_table_has_its_headings_cells(evaluation):
    everything = msgspec.structs.replace(evaluation, kl=(0.5, 0.001))
    titles = []
    for table in tables(everything):
        titles.append(table.title)
        assert {len(row) for row in table.rows} == {len(table.rows[0])}
    assert titles[-1] == "KL term of each value of the code" and len(titles) == 6


def test_json_holds_no_types_that_json_lacks(evaluation):
    text = msgspec.json.encode(evaluation)
    assert json.loads(text)["error"][0]["name"] == "keras"
    assert msgspec.json.decode(text, type=Evaluation) == evaluation


def test_a_bundle_without_data_is_refused():
    with pytest.raises(DataError, match="a bundle holds no rows to evaluate on; name a file of samples"):
        evaluate_files(TINY, None)


def test_labels_may_stand_in_a_column_of_the_data_but_only_there_or_elsewhere(readings, tmp_path):
    names = json.loads((TINY / "manifest.json").read_text())["input"]["features"]
    lines = [",".join(["state", *names])]
    lines += [",".join([f"s{i % 2}", *map(str, row)]) for i, row in enumerate(readings)]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(lines) + "\n")
    found = evaluate_files(TINY, path, label_column="state", normal="s0", noise=())
    np.testing.assert_allclose(found.context.samples.rows, readings, rtol=1e-6)
    assert found.context.truth.anomalous.tolist() == [bool(i % 2) for i in range(len(readings))]
    with pytest.raises(DataError, match="both labels and label_column say what they are"):
        evaluate_files(TINY, path, labels=path, label_column="state")


def test_of_a_series_a_window_has_the_time_of_its_last_reading(tmp_path):
    times = hours(*range(10)).astype(str)
    lines = [f"{t},{i},{'bad' if i == 4 else 'ok'}\n" for i, t in enumerate(times)]
    (tmp_path / "s.csv").write_text("time,x,state\n" + "".join(lines))
    shape = Input(shape=(4, 1), features=("x",), window=4, stride=2)
    found = read_samples(tmp_path / "s.csv", shape, None, None)
    assert found.rows[:, :, 0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]]
    np.testing.assert_array_equal(found.timestamps, hours(3, 5, 7, 9))
    assert found.series and found.overlap == 1 and found.span == np.timedelta64(3, "h")
    labelled = read_samples(tmp_path / "s.csv", shape, None, "state", "ok")
    assert labelled.labels.tolist() == ["ok", "bad", "bad", "ok"]
    np.testing.assert_array_equal(labelled.rows, found.rows)
    turned = read_samples(tmp_path / "s.csv", shape, None, "state", "bad")
    assert turned.labels.tolist() == ["ok"] * 4
    np.save(tmp_path / "cut.npy", found.rows)
    cut = read_samples(tmp_path / "cut.npy", shape, None, None)
    np.testing.assert_array_equal(cut.rows, found.rows)
    assert cut.series and cut.timestamps is None


def test_periods_are_for_a_series_with_times(trained, digits):
    with pytest.raises(DataError, match="they are periods of time, but the data are no series with times"):
        evaluate(trained.source, digits.values[:9], labels=np.array([hours(1, 2)]))


def test_what_is_neither_run_nor_bundle_is_refused(tmp_path):
    with pytest.raises(EdgeaeError, match=r"manifest\.json is missing"):
        evaluate(tmp_path, np.zeros((3, 6)))


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("l.csv", b"label\n3\n1\n2\n", [3, 1, 2]),
        ("l.csv", b"state\r\nok\r\nhot\r\n", ["ok", "hot"]),
        ("l.json", b"[0, 1, 1]", [0, 1, 1]),
        ("l.json", b'["a", "b"]', ["a", "b"]),
        ("l.csv.gz", gzip.compress(b"state\nok\nhot\n", mtime=0), ["ok", "hot"]),
        ("l.jsonl", b'{"y": 1}\n{"y": 0}\n', [1, 0]),
        ("labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x03\x09\0\x02", [9, 0, 2]),
        ("labels-idx1-ubyte.gz", gzip.compress(b"\0\0\x08\x01\0\0\0\x02\x07\x08", mtime=0), [7, 8]),
    ],
)
def test_labels_are_read(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert read_labels(tmp_path / name).tolist() == expected


@pytest.mark.parametrize("values", [np.array([0.0, 2.0]), np.array(["x", "y"]), np.array([[1], [0]])])
def test_labels_are_read_from_numpy(tmp_path, values):
    np.save(tmp_path / "l.npy", values)
    assert read_labels(tmp_path / "l.npy").tolist() == values.reshape(-1).tolist()


def test_periods_are_read_from_json(tmp_path):
    (tmp_path / "p.json").write_text('[["2014-01-27 14:20:00", "2014-01-29 13:30:00.5"]]')
    found = read_labels(tmp_path / "p.json")
    assert found.shape == (1, 2) and found.dtype.kind == "M"
    assert str(found[0, 1]) == "2014-01-29T13:30:00.500000"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", b"a,b\n1,2\n", "has 2 columns, expected one, of labels"),
        ("l.csv", b"a\n1\n \n", "row 2 (line 3), column 'a' is empty"),
        ("l.csv", b"a\n", "has no rows"),
        ("l.jsonl", b'{"a": 1, "b": 2}\n', "has 2 columns, expected one, of labels"),
        ("l.jsonl", b'{"a": 1}\n{"a": null}\n', "row 2 (line 2), column 'a' is empty"),
        ("l.jsonl", b"[1]\n", "holds no labels"),
        ("l.csv", b"\xff\xfe", "cannot be read"),
        ("l.json", b"{}", "expected a list of labels, or of periods"),
        ("l.json", b"[", "cannot be read as JSON"),
        ("l.json", b'[["2014", "2013"]]', "each with its start first"),
        ("l.json", b'[["x", "y"]]', "expected a list of labels, or of periods"),
        ("l.bin", b"abc", "unknown kind of file, expected .csv, "),
        ("l-idx1-ubyte.gz", b"\x1f\x8babc", "cannot be read"),
        (
            "l-idx1-ubyte",
            b"\0\0\x08\x01\0\0\0\x09\x09",
            "cannot be read (EOFError: 8 of 9 bytes are missing)",
        ),
        ("l-idx2-ubyte", b"\0\0\x08\x02\0\0\0\x01\0\0\0\x01\x09", "holds no labels"),
    ],
)
def test_a_file_that_holds_no_labels_is_told_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as told:
        read_labels(tmp_path / name)
    assert str(told.value).startswith(f"{tmp_path / name}: ") and message in str(told.value)
    assert "\n" not in str(told.value)


def test_labels_of_two_dimensions_and_missing_files_are_refused(tmp_path):
    np.save(tmp_path / "l.npy", np.array([0, np.nan]))
    with pytest.raises(DataError, match="row 2 holds nan; every value must be finite"):
        read_labels(tmp_path / "l.npy")
    np.save(tmp_path / "l.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"has shape \(3, 2\), expected one label a row"):
        read_labels(tmp_path / "l.npy")
    with pytest.raises(DataError, match="no such file"):
        read_labels(tmp_path / "none.csv")
