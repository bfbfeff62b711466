"""What the gate and the look at the data refuse, warn of, and let pass; on the command line and in Python."""

import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import edgeae_export
from edgeae_export import Limits
from edgeae_export.builder import ArtifactBuilder, Options
from edgeae_export.config import ExportConfig
from edgeae_export.fidelity.limits import DEFAULT_LIMITS
from edgeae_export.fidelity.table import fidelity_table
from edgeae_export.pipeline import options_of
from edgeae_export.source import Source
from edgeae_runtime import Bundle, DataError, load
from edgeae_runtime.cli.main import main
from edgeae_runtime.errors import EdgeaeWarning

ONNX = ["--formats", "onnx", "--recipe", "compensated"]


@pytest.fixture(scope="module")
def run_folder(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("refusals") / "digits.run"
    digits.trained.save(folder)
    return folder


@pytest.fixture
def export(run_folder, tmp_path):
    def run(*options):
        out = tmp_path / "out.edgeae"
        return CliRunner().invoke(main, ["export", str(run_folder), "--out", str(out), *options]), out

    return run


# --- the gate --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--max-error-change", "0.0001", r"the error moves by 0."),
        ("--min-rank-correlation", "0.9999999", "rank correlation 0.99"),
        ("--min-cosine", "0.9999999", "embedding cosine "),
    ],
)
def test_a_limit_that_an_option_moves_refuses_the_quantized_ones_and_nothing_is_written(
    export, option, value, told
):
    result, out = export(*ONNX, option, value)
    assert result.exit_code == 3
    assert f"Error: {out}: not written, " in result.output
    assert "scorer.int8.onnx: " in result.output and told in result.output
    assert "encoder.float32.onnx: " not in result.output  # the limits of float32 are not the options'
    rows = {line.split()[0]: line.split()[1] for line in result.output.splitlines() if ".onnx  " in line}
    assert rows["scorer.float32.onnx"] == "ok"
    assert rows["scorer.int8.onnx"] == "refused"
    assert not out.exists()


def test_keep_passing_writes_the_good_ones_and_exits_with_3_all_the_same(export):
    result, out = export(*ONNX, "--max-error-change", "0.0001", "--keep-passing")
    assert result.exit_code == 3
    assert f"{out}: 3 faithful artifacts, 3 refused" in result.output
    bundle = Bundle(out)
    names = [f"{role}.float32.onnx" for role in ("encoder", "decoder", "scorer")]
    assert [artifact.path for artifact in bundle.manifest.artifacts] == names
    assert {path.name for path in out.iterdir()} == {*names, "manifest.json", "manifest.sha256", "golden.npz"}
    with np.load(out / "golden.npz") as golden:
        assert not [name for name in golden if "int8" in name]
    assert load(out).precision == "float32"


def test_where_nothing_passes_nothing_is_kept(export):
    result, out = export(*ONNX, "--precisions", "int8", "--max-error-change", "0.0001", "--keep-passing")
    assert result.exit_code == 3
    assert "not written, 3 of 3 artifacts refused" in result.output
    assert not out.exists()


def test_the_options_set_the_limits_of_what_is_quantized_alone():
    limits = options_of(ExportConfig(max_error_change=0.02, min_rank_correlation=0.9)).limits
    assert limits["float32"] == DEFAULT_LIMITS["float32"]
    for precision in ("float16", "dynamic", "int8"):
        assert limits[precision] == Limits(0.02, 0.9, DEFAULT_LIMITS[precision].embedding_cosine)
    assert options_of(ExportConfig()).limits == DEFAULT_LIMITS


def test_the_figures_of_the_table_are_those_of_the_files_by_hand(digits, run, keras_says):
    """False alarms "at float's" above all: the float model's threshold on the quantized model's errors."""
    builder = ArtifactBuilder(
        digits.source, Options(formats=("onnx",), precisions=("int8",), recipe="per-tensor")
    )
    judged = builder.make("scorer", "int8", "onnx")
    held_out = digits.source.rows[len(digits.source.rows) // 2 :]
    right = keras_says(digits.source, held_out)
    import onnxruntime

    session = onnxruntime.InferenceSession(judged.content, providers=["CPUExecutionProvider"])
    flat = np.float32(held_out.reshape(len(held_out), -1))
    code, error = session.run(["embedding", "error"], {"input": flat})
    change = np.abs(error - right.error) / right.error
    dots = np.sum(np.float64(code) * right.embedding, axis=1)
    cosine = np.mean(dots / np.linalg.norm(code, axis=1) / np.linalg.norm(right.embedding, axis=1))
    row = dict(zip(*fidelity_table([judged]), strict=True))
    assert row["artifact"] == "scorer.int8.onnx"
    assert row["status"] == ("refused" if judged.violations else "ok")
    assert row["bytes"] == f"{len(judged.content):,}"
    assert row["error moves"] == f"{np.median(change):.4%}"
    assert row["p99"] == f"{np.quantile(change, 0.99):.3%}"
    assert float(row["cosine"]) == pytest.approx(cosine, abs=1e-6)
    own, of_float = np.quantile(error, 0.99), np.quantile(right.error, 0.99)
    assert row["false alarms"] == f"{np.mean(error > own):.2%}"
    assert row["at float's"] == f"{np.mean(error > of_float):.2%}"
    assert judged.artifact.fidelity.false_alarms_reference == np.mean(error > of_float)
    assert own != of_float


# --- the rows ----------------------------------------------------------------------------------------


def with_rows(source, rows):
    return Source(source.encoder, source.decoder, source.scaler, source.input, np.float32(rows))


@pytest.mark.parametrize("value", [0, 7.5])
def test_rows_that_are_all_the_same_are_refused(digits, value):
    rows = np.full((60, 8, 8), value)
    with pytest.raises(DataError, match=r"^the calibration rows are all the same; pass real, varied rows$"):
        ArtifactBuilder(with_rows(digits.source, rows), Options())


def test_one_row_over_and_over_is_refused_on_the_command_line(export, digits, tmp_path):
    np.save(tmp_path / "same.npy", np.repeat(digits.rows[:1], 50, axis=0))
    result, out = export(*ONNX, "--data", str(tmp_path / "same.npy"))
    assert result.exit_code == 1
    assert "Error: the calibration rows are all the same" in result.output
    assert not out.exists()


UNKNOWN = (
    r"^the model explains nothing of the variance of the calibration rows \(its mean error is \S+ times "
    r"that of answering with their mean\): they are unlike what it was trained on, or not in its units"
)


def noise(rows):
    return np.random.default_rng(0).uniform(0, 16, rows.shape)


@pytest.mark.parametrize(
    "make",
    [noise, lambda rows: rows / 255, lambda rows: rows + 273, lambda rows: 16 - rows],
    ids=["noise", "scaled already", "other units", "inverted"],
)
def test_rows_that_the_model_does_not_know_at_all_are_refused(digits, make):
    rows = make(digits.source.rows)
    with pytest.raises(DataError, match=UNKNOWN):
        ArtifactBuilder(with_rows(digits.source, rows), Options())


def test_rows_that_it_hardly_knows_are_warned_of(digits):
    blurred = 0.63 * digits.source.rows + 0.37 * noise(digits.source.rows)
    with pytest.warns(EdgeaeWarning, match=r"^the model explains [1-9]% of the variance of the .*: they are"):
        ArtifactBuilder(with_rows(digits.source, blurred), Options())


def test_real_rows_are_not_warned_of(digits):
    ArtifactBuilder(digits.source, Options())  # a warning would be an error here


def test_the_refusal_is_a_line_on_the_command_line(export, digits, tmp_path):
    np.save(tmp_path / "noise.npy", noise(digits.rows[:60]))
    options = ("--formats", "onnx", "--precisions", "float32")
    result, out = export(*options, "--data", str(tmp_path / "noise.npy"))
    assert result.exit_code == 1
    errors = [
        line for line in result.output.splitlines() if line.startswith("Error: the model explains nothing")
    ]
    assert errors == result.output.splitlines()[-1:]
    assert not out.exists()


def test_the_warning_is_a_line_on_the_command_line(export, digits, tmp_path):
    rows = digits.source.rows
    np.save(tmp_path / "blurred.npy", 0.63 * rows + 0.37 * noise(rows))
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result, out = export(
            "--formats", "onnx", "--precisions", "float32", "--data", str(tmp_path / "blurred.npy")
        )
    assert result.exit_code == 0, result.output
    assert re.search(
        r"Warning: the model explains [1-9]% of the variance of the calibration rows", result.output
    )
    assert out.exists()


def test_too_few_rows_are_refused_anomalies_not_counted(digits, tmp_path):
    models = (digits.source.encoder, digits.source.decoder)
    rows = digits.source.scaler.scale(digits.source.rows[:39]).reshape(39, -1)
    labels = np.arange(39) >= 19
    with pytest.raises(DataError, match=r"^19 held-out rows are too few .*, at least 20 are needed"):
        edgeae_export.export(models, rows, tmp_path / "x.edgeae", labels=labels, threshold="f1")
    assert not list(tmp_path.iterdir())


def test_a_calibration_takes_no_more_than_it_needs_and_no_row_that_judges(digits):
    rows = np.concatenate([digits.rows] * 2)
    builder = ArtifactBuilder(with_rows(digits.source, rows), Options())
    assert len(builder.calibration.scaled) == 1024
    np.testing.assert_array_equal(builder.rows, rows[len(rows) // 2 :])
    few = ArtifactBuilder(replace(digits.source, rows=digits.rows[:100]), Options())
    assert (len(few.calibration.scaled), len(few.rows)) == (50, 50)
