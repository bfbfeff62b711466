import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import edgeae_runtime
from edgeae import Autoencoder
from edgeae.config import TrainConfig
from edgeae_export.model.load import load_run
from edgeae_runtime import DataError, OutputError
from edgeae_runtime.settings import SettingsError

IMAGES = load_digits().data
SMALL = {"hidden": (16,), "epochs": 3, "batch_size": 32, "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    """569 rows of 30 columns, float64."""
    return load_breast_cancer().data


@pytest.fixture(scope="module")
def fitted(rows):
    return Autoencoder(6, **SMALL | {"epochs": 30}, validation_fraction=0.2).fit(rows)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:a code of 1 values is not smaller than the input of 1:UserWarning")
@parametrize_with_checks([Autoencoder(hidden=(), epochs=1)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


# --- what the methods say ------------------------------------------------------------------------


def test_codes_and_rows_are_those_of_the_networks_in_raw_units(fitted, rows):
    model, scaler = fitted.trained_.model, fitted.trained_.scaler
    scaled = (np.float32(rows) - np.float32(scaler.offset)) * np.float32(scaler.gain)
    code = np.asarray(model.get_layer("encoder")(scaled))
    assert fitted.transform(rows).shape == (569, 6)
    np.testing.assert_allclose(fitted.transform(rows), code, rtol=1e-4, atol=1e-5)
    expected = np.asarray(model(scaled)) / np.float32(scaler.gain) + np.float32(scaler.offset)
    np.testing.assert_allclose(fitted.inverse_transform(code), expected, rtol=1e-4, atol=1e-4)
    error = np.mean((scaled - np.asarray(model(scaled), np.float64)) ** 2, axis=1)
    np.testing.assert_allclose(fitted.score_samples(rows), -error, rtol=1e-4)
    assert fitted.score(rows) == pytest.approx(-error.mean(), rel=1e-4)


def test_it_learns(fitted, rows):
    """The columns' largest values lie between 0.03 and 4,254; the mean would leave 1 of each."""
    left = np.mean((fitted.inverse_transform(fitted.transform(rows)) - rows) ** 2, axis=0)
    assert np.median(left / rows.var(axis=0)) < 0.6


def test_the_threshold_is_the_held_out_rows_and_decides_what_is_an_outlier(fitted, rows):
    held_out = fitted.trained_.held_out
    assert len(held_out) == round(0.2 * 569)
    errors = -fitted.score_samples(held_out)
    assert -fitted.offset_ == fitted.threshold_.value == pytest.approx(np.quantile(errors, 0.99))
    np.testing.assert_array_equal(
        fitted.predict(rows), np.where(-fitted.score_samples(rows) > -fitted.offset_, -1, 1)
    )
    assert np.sum(fitted.predict(held_out) == -1) == 2  # of 114 rows, two are above the 99th percentile
    assert fitted.predict(rows[:5] + 5 * np.ptp(rows, axis=0)).tolist() == [-1] * 5


def test_of_few_rows_the_threshold_is_taken_on_all(rows):
    model = Autoencoder(threshold="max:1.5", **SMALL).fit(rows[:50])
    assert len(model.trained_.held_out) == 5
    assert model.threshold_.rows == 50
    assert model.threshold_.value == pytest.approx(1.5 * -model.score_samples(rows[:50]).min())


def test_a_row_has_the_same_result_whatever_rows_stand_beside_it(fitted, rows):
    codes, scores = fitted.transform(rows), fitted.score_samples(rows)
    for i in (0, 3, 127, 128, 568):
        np.testing.assert_array_equal(fitted.transform(rows[i : i + 1]), codes[i : i + 1])
        assert fitted.score_samples(rows[i : i + 1]) == scores[i]


def test_images_are_rows_with_a_shape(rows):
    model = Autoencoder(4, arch="conv2d", sample_shape=(8, 8), **SMALL | {"hidden": (2,), "epochs": 1})
    codes = model.fit_transform(IMAGES[:200])
    assert codes.shape == (200, 4)
    assert model.inverse_transform(codes).shape == (200, 64)
    assert model.trained_.input.shape == (8, 8)


def test_windows_of_a_series_are_held_out_at_its_end_and_share_no_reading_with_those_trained_on():
    readings = np.column_stack([np.arange(300.0), 1000 * np.sin(np.arange(300))])
    windows = np.stack([readings[i : i + 10] for i in range(291)]).reshape(291, 20)
    model = Autoencoder(4, sample_shape=(10, 2), stride=1, **SMALL).fit(windows)
    np.testing.assert_array_equal(model.trained_.held_out.reshape(-1, 20), np.float32(windows[-29:]))
    first_held_out = windows[-29, 0]
    assert model.trained_.scaler.offset[0] + 1 / model.trained_.scaler.gain[0] == pytest.approx(
        first_held_out - 1
    )
    assert (model.trained_.input.window, model.trained_.input.stride) == (10, 1)


# --- repeatability -------------------------------------------------------------------------------


def test_random_state_decides_and_the_callers_random_numbers_are_left_alone(rows):
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    once, again, other = (
        Autoencoder(4, **SMALL | {"random_state": s}).fit_transform(rows) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(np.random.random(3), expected)
    np.testing.assert_array_equal(once, again)
    assert not np.allclose(once, other)


def test_defaults_are_those_of_a_training():
    given, trained = Autoencoder().get_params(), TrainConfig()
    names = {"validation_fraction": "validation_split"}
    own = {"sample_shape", "stride", "threshold", "random_state", "verbose", "latent_dim", "architecture"}
    assert {names.get(name, name) for name in set(given) - own} | {"seed"} == set(
        TrainConfig.__struct_fields__
    )
    for name in set(given) - own:
        assert given[name] == getattr(trained, names.get(name, name)), name


def test_old_names_of_parameters_still_work_and_say_what_they_are_called_now(rows):
    old = Autoencoder(latent_dim=3, architecture="dense", **SMALL)
    with pytest.warns(DeprecationWarning) as caught:
        old.fit(rows)
    told = [one for one in caught if "old name" in str(one.message)]
    assert [str(one.message) for one in told] == [
        "Autoencoder: latent_dim is called latent now; the old name will be removed",
        "Autoencoder: architecture is called arch now; the old name will be removed",
    ]
    assert {one.filename for one in told} == {__file__}
    np.testing.assert_array_equal(old.transform(rows), Autoencoder(3, **SMALL).fit(rows).transform(rows))
    again = clone(old).set_params(latent_dim=np.int64(2))
    assert again.get_params()["architecture"] == "dense"
    with pytest.warns(DeprecationWarning):
        assert again.fit(rows).transform(rows).shape == (569, 2)


def test_a_parameter_by_both_of_its_names_is_refused(rows):
    with pytest.raises(SettingsError, match=r"^latent_dim is the old name of latent, and both are given; "):
        Autoencoder(4, latent_dim=3, **SMALL).fit(rows)


# --- in scikit-learn's company -------------------------------------------------------------------


def test_a_table_gives_the_names_of_its_columns():
    table = load_breast_cancer(as_frame=True).data
    model = Autoencoder(3, **SMALL).set_output(transform="pandas")
    codes = model.fit_transform(table)
    assert list(codes.columns) == ["autoencoder0", "autoencoder1", "autoencoder2"]
    assert model.trained_.input.features == tuple(table.columns)


@pytest.mark.slow
def test_it_is_searched_for_in_a_pipeline():
    X, y = IMAGES[:400], load_digits().target[:400]
    network = Autoencoder(sample_shape=(8, 8), **SMALL | {"hidden": (64,), "epochs": 30})
    pipeline = make_pipeline(network, StandardScaler(), LogisticRegression())
    grid = {
        "autoencoder__latent": np.array([1, 16]),  # numpy's integers, as a grid often has
        "autoencoder__objective": ["plain", "denoising"],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_["autoencoder__latent"] == 16
    assert search.best_score_ > 0.6  # by chance: 0.1
    assert search.score(X, y) > 0.8


@pytest.mark.parametrize("objective", ["plain", "variational"])
def test_a_copy_is_the_same(objective, rows, tmp_path):
    model = Autoencoder(4, objective=objective, **SMALL).fit(rows)
    expected = model.score_samples(rows)
    content = pickle.dumps(model)
    for again in (pickle.loads(content), copy.deepcopy(model)):
        np.testing.assert_array_equal(again.score_samples(rows), expected)
        assert (again.trained_.posterior is None) == (objective == "plain")
        assert again.get_params() == model.get_params()
        assert again.trained_.history == model.trained_.history
    assert not hasattr(clone(model), "trained_")


@pytest.mark.slow
def test_a_pickle_is_read_by_a_process_that_never_trained(fitted, rows, tmp_path):
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(fitted))
    np.save(tmp_path / "rows.npy", rows)
    script = """
import gc, pickle, numpy
model = pickle.load(open("model.pickle", "rb"))
numpy.save("scores.npy", model.score_samples(numpy.load("rows.npy")))
assert gc.isenabled() and not gc.get_freeze_count()  # the collector is the caller's
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), fitted.score_samples(rows), rtol=1e-6)


def test_the_package_is_imported_without_scikit_learn_or_tensorflow():
    script = "import sys, edgeae; assert not {'sklearn', 'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


# --- to the device -------------------------------------------------------------------------------


def test_save_writes_a_run_folder(fitted, rows, tmp_path):
    fitted.save(tmp_path / "cells.run")
    source = load_run(tmp_path / "cells.run")
    np.testing.assert_array_equal(source.rows, fitted.trained_.held_out)
    code = np.asarray(source.encoder(source.scaler.scale(np.float32(rows))))
    np.testing.assert_allclose(code, fitted.transform(rows), rtol=1e-4, atol=1e-5)
    with pytest.raises(OutputError, match="exists already"):
        fitted.save(tmp_path / "cells.run")
    fitted.save(tmp_path / "cells.run", force=True)


@pytest.mark.slow
def test_export_writes_a_bundle_that_says_the_same(fitted, rows, tmp_path):
    fitted.export(tmp_path / "cells.edgeae", formats=["onnx"], precisions=["float32"])
    bundle = edgeae_runtime.load(tmp_path / "cells.edgeae", precision="float32")
    error, anomaly, embedding, threshold = bundle.detect(np.float32(rows))
    np.testing.assert_allclose(-error, fitted.score_samples(rows), rtol=1e-3)
    np.testing.assert_allclose(embedding, fitted.transform(rows), rtol=1e-3, atol=1e-4)
    assert np.mean(np.where(anomaly, -1, 1) == fitted.predict(rows)) > 0.98
    (artifact,) = [a for a in bundle.manifest.artifacts if a.role == "scorer"]
    assert artifact.threshold.rule == fitted.threshold_.rule == "quantile:0.99"
    errors = -fitted.score_samples(fitted.trained_.held_out)  # of which the export calibrates on a part
    assert np.quantile(errors, 0.9) < threshold == artifact.threshold.value <= errors.max() * 1.001


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"arch": "transformer"}, SettingsError, "transformer"),
        ({"epochs": "ten"}, SettingsError, r"^Autoencoder: Expected `int`, got `str` - at `\$.epochs`$"),
        ({"epochs": 0}, SettingsError, "^epochs: expected more than 0, found 0$"),
        ({"batch_size": -1}, SettingsError, "^batch_size: expected more than 0, found -1$"),
        (
            {"validation_fraction": 1.5},
            SettingsError,
            "^validation_split: expected between 0 and 1, found 1.5$",
        ),
        (
            {"threshold": "mean"},
            edgeae_runtime.EdgeaeError,
            "threshold rule 'mean' is not known; use quantile",
        ),
        (
            {"threshold": "f1"},
            SettingsError,
            "^threshold f1 needs rows known to be anomalies; use quantile, ",
        ),
        (
            {"hidden": 7},
            SettingsError,
            r"^Autoencoder: Expected `array \| null`, got `int` - at `\$.hidden`$",
        ),
        ({"sample_shape": (7, 4)}, DataError, r"^sample_shape \(7, 4\) has 28 values, X has 30 features$"),
        ({"arch": "conv2d"}, SettingsError, "^conv2d wants samples of 2 or 3 axes"),
        (
            {"stride": 1},
            SettingsError,
            r"^stride 1 and samples of shape \(30,\): expected a stride of at least 1",
        ),
    ],
)
def test_a_wrong_parameter_is_told(parameters, error, message, rows):
    with pytest.raises(error, match=message):
        Autoencoder(**SMALL | parameters).fit(rows)


def test_codes_of_another_size_are_told(fitted):
    with pytest.raises(ValueError, match=r"^X has 7 features, but the codes of this Autoencoder have 6$"):
        fitted.inverse_transform(np.zeros((3, 7)))


def test_values_beyond_float32_are_told(rows):
    with pytest.raises(DataError, match=r"^X: row 2 holds 1e\+39, which does not fit float32"):
        Autoencoder(**SMALL).fit(np.where(np.arange(569)[:, None] == 1, 1e39, rows))


def test_verbose_prints_a_line_an_epoch(rows, capsys):
    Autoencoder(4, verbose=1, **SMALL).fit(rows)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]
    assert all(" loss 0." in line and " validation 0." in line for line in lines)
