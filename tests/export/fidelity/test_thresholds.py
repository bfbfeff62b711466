import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from edgeae_runtime import DataError
from edgeae_runtime.bundle.thresholds import DEFAULT_RULE, Rule, RuleError
from edgeae_runtime.cli.main import main

ERRORS = np.random.default_rng(0).gamma(2, size=500)


# --- the rules as text ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("quantile:0.99", "quantile", 0.99),
        ("quantile:0.5", "quantile", 0.5),
        ("quantile", "quantile", 0.99),
        ("sigma:3", "sigma", 3),
        ("sigma", "sigma", 3),
        ("max", "max", 1),
        ("max:1.33", "max", 1.33),
        ("f1", "f1", 0),
    ],
)
def test_a_rule_is_read_and_written_back(text, kind, value):
    rule = Rule.parse(text)
    assert (rule.kind, rule.value) == (kind, value)
    assert Rule.parse(str(rule)) == rule


def test_the_default_is_the_99th_percentile():
    assert str(DEFAULT_RULE) == "quantile:0.99"


@given(kind=st.sampled_from(["quantile", "sigma", "max"]), share=st.integers(1, 999))
def test_any_rule_comes_back_as_it_was(kind, share):
    rule = Rule.parse(f"{kind}:{share / 1000}")
    assert Rule.parse(str(rule)) == rule
    assert rule.value == share / 1000


@pytest.mark.parametrize(
    "text",
    [
        *("", "mean", "quantile:", "quantile:0", "quantile:1", "quantile:99", "quantile:-0.1", "quantile:x"),
        *("sigma:0", "sigma:-1", "sigma:nan", "sigma:inf", "max:0", "max:-2", "max:inf", "f1:2", "f1:"),
        *("Quantile:0.9", "quantile 0.99", "quantile:0.99:0.5"),
    ],
)
def test_a_rule_that_is_not_known_is_told_with_examples(text):
    with pytest.raises(RuleError) as caught:
        Rule.parse(text)
    assert str(caught.value) == (
        f"threshold rule {text!r} is not known; use quantile:0.99, sigma:3, max, max:1.33 or f1"
    )


# --- what they choose ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quantile:0.9", np.quantile(ERRORS, 0.9)),
        ("quantile:0.999", np.quantile(ERRORS, 0.999)),
        ("sigma:2", ERRORS.mean() + 2 * np.sqrt(np.mean((ERRORS - ERRORS.mean()) ** 2))),
        ("max", ERRORS.max()),
        ("max:1.5", 1.5 * ERRORS.max()),
    ],
)
def test_a_rule_chooses_what_numpy_says(text, expected):
    threshold = Rule.parse(text).choose(ERRORS, np.array([1e9]))  # of which only f1 takes notice
    assert threshold.value == pytest.approx(expected, rel=1e-12)
    assert (threshold.rule, threshold.rows) == (str(Rule.parse(text)), 500)
    assert threshold.quantiles == pytest.approx(
        {str(q): np.quantile(ERRORS, q) for q in (0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)}
    )


def best_f1(normal, anomalous):
    """Over all cut points, by scikit-learn."""
    errors = np.concatenate([normal, anomalous])
    truth = np.repeat([0, 1], [len(normal), len(anomalous)])
    cuts = [-1.0, *np.unique(errors)]
    return max(f1_score(truth, errors > cut, zero_division=0) for cut in cuts)


few = st.lists(st.integers(0, 12), min_size=1, max_size=12)  # so few values that many are equal


@settings(deadline=None)  # the machine may be busy
@given(normal=few, anomalous=few)
def test_f1_finds_the_best_of_all_cut_points_ties_among_them(normal, anomalous):
    normal, anomalous = np.float64(normal), np.float64(anomalous)
    threshold = Rule.parse("f1").choose(normal, anomalous)
    errors = np.concatenate([normal, anomalous])
    truth = np.repeat([0, 1], [len(normal), len(anomalous)])
    assert f1_score(truth, errors > threshold.value) == pytest.approx(best_f1(normal, anomalous))
    assert threshold.rule == "f1"
    assert threshold.rows == len(normal)


def test_f1_cuts_halfway_between_two_neighbours():
    threshold = Rule.parse("f1").choose(np.array([1.0, 2.0, 3.0]), np.array([7.0, 8.0]))
    assert threshold.value == 5.0


def test_f1_between_neighbouring_floats_still_parts_them():
    low = np.float64(0.1)
    high = np.nextafter(low, 1)
    threshold = Rule.parse("f1").choose(np.array([low]), np.array([high]))
    assert low <= threshold.value < high


@pytest.mark.parametrize("anomalous", [None, np.array([])])
def test_f1_without_anomalies_is_told(anomalous):
    with pytest.raises(DataError, match=r"^the threshold rule f1 needs rows known .*pass labels with some"):
        Rule.parse("f1").choose(ERRORS, anomalous)


# --- on the command line -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with an autoencoder of a line in four dimensions, rows near and far off it, and labels."""
    import keras

    folder = tmp_path_factory.mktemp("labels")
    line = np.float32([1, 2, 3, 4])
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1), keras.layers.Dense(4)])
    zeros = np.zeros(1), np.zeros(4)
    model.set_weights([line[:, np.newaxis] / np.sum(line**2), zeros[0], line[np.newaxis], zeros[1]])
    model.save(folder / "ae.keras")
    rng = np.random.default_rng(0)
    rows = np.float32(rng.normal(size=(60, 1)) * line + 0.1 * rng.normal(size=(60, 4)))
    rows[50:] += [3, 0, 0, 0]
    np.save(folder / "rows.npy", rows)
    np.save(folder / "labels.npy", np.arange(60) >= 50)
    (folder / "labels.csv").write_text("anomalous\n" + "0\n" * 50 + "1\n" * 10)
    np.save(folder / "short.npy", np.zeros(59, np.uint8))
    np.save(folder / "words.npy", np.arange(60))
    return folder


@pytest.fixture
def export(files, tmp_path):
    def run(*options):
        out = tmp_path / "out.edgeae"
        arguments = ["export", str(files / "ae.keras"), "--data", str(files / "rows.npy"), "--out", str(out)]
        arguments += ["--formats", "onnx", "--precisions", "float32", *options]
        return CliRunner().invoke(main, arguments), out

    return run


@pytest.mark.parametrize("labels", ["labels.npy", "labels.csv"])
def test_labels_part_the_rows_and_f1_parts_their_errors(export, files, labels):
    from edgeae_runtime import load

    result, out = export("--threshold", "f1", "--labels", str(files / labels))
    assert result.exit_code == 0, result.output
    device = load(out, engine="onnxruntime", precision="float32")
    assert device.threshold.rule == device.manifest.reference.rule == "f1"
    assert device.threshold.rows == 25  # of 50 normal ones, the other half is for calibration
    rows = np.load(files / "rows.npy")
    np.testing.assert_array_equal(device.detect(rows[25:]).anomaly, np.arange(25, 60) >= 50)
    assert device.manifest.artifacts[0].fidelity.rows == 35


def test_f1_without_labels_is_told_and_nothing_is_written(export):
    result, out = export("--threshold", "f1")
    assert result.exit_code == 1
    assert "Error: the threshold rule f1 needs rows known to be anomalies; pass --labels" in result.output
    assert not out.exists()


def test_a_rule_that_is_not_known_is_told_on_the_command_line(export):
    result, out = export("--threshold", "quantile:2")
    assert result.exit_code == 1
    assert "Error: threshold rule 'quantile:2' is not known; use quantile:0.99" in result.output
    assert not out.exists()


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (
            "short.npy",
            "expected 60 values of 0 (normal) or 1 (anomalous), found 59 with the values 0",
        ),
        (
            "words.npy",
            "expected 60 values of 0 (normal) or 1 (anomalous), found 60 with the values 0, 1, 2, 3, 4",
        ),
    ],
)
def test_labels_that_do_not_fit_are_told(export, files, labels, told):
    result, out = export("--threshold", "f1", "--labels", str(files / labels))
    assert result.exit_code == 1
    assert f"Error: labels: {told}" in result.output
    assert not out.exists()
