import hashlib
import json
from datetime import datetime, timedelta

import click.testing
import numpy as np
import pytest

import edgeae_runtime
from edgeae_runtime import BundleError, DataError, new_threshold, read_threshold, write_threshold
from edgeae_runtime.cli.main import main
from edgeae_runtime.errors import EdgeaeWarning

ARTIFACT = "scorer.float32.onnx"
CHOICE = ("--engine", "onnxruntime", "--precision", "float32")


@pytest.fixture
def readings(rows, tmp_path):
    """The rows as a table with a reading a minute."""
    path = tmp_path / "readings.csv"
    start = datetime(2026, 1, 1)
    names = "time,temperature,pressure,vibration,voltage,current,speed\n"
    lines = [
        ",".join([str(start + i * timedelta(minutes=1)), *map(str, row.tolist())])
        for i, row in enumerate(rows)
    ]
    path.write_text(names + "\n".join(lines) + "\n")
    return path


def kept(bundle):
    return bundle.path.with_name("pump.edgeae.threshold.json")


# --- from errors to a threshold ------------------------------------------------------------------


def test_a_threshold_is_the_quantile_of_normal_errors() -> None:
    errors = np.random.default_rng(0).exponential(1.0, 5000)
    found = new_threshold(errors, quantile=0.9)
    assert found.value == np.quantile(errors, 0.9)
    assert (found.rule, found.rows) == ("quantile:0.9", 5000)
    assert found.quantiles["0.5"] == np.median(errors) and found.quantiles["1.0"] == errors.max()


def test_its_quantiles_are_those_that_a_bundle_has(tiny) -> None:
    own = edgeae_runtime.Bundle(tiny).manifest.reference.quantiles
    assert list(new_threshold(np.arange(100)).quantiles) == list(own)


@pytest.mark.parametrize(
    ("errors", "quantile", "told"),
    [
        (np.ones(19), 0.99, "^19 windows of normal operation are too few for a threshold; want at least 20"),
        (np.ones(99), 0.0, r"^quantile is 0; want above 0 and at most 1, such as 0\.99$"),
        (np.ones(99), 1.5, r"^quantile is 1\.5; want"),
        (np.array([np.inf] * 99), 0.5, "^an error is not finite; leave out the readings"),
        (np.ones((99, 4)), 0.5, r"^errors: expected \(n,\), found \(99, 4\); give the errors alone$"),
    ],
)
def test_what_makes_no_threshold_is_refused(errors, quantile, told) -> None:
    with pytest.raises(DataError, match=told):
        new_threshold(errors, quantile=quantile)


@pytest.mark.parametrize("quantile", ["0.5", "1"])
def test_an_infinite_error_becomes_no_threshold_but_is_told_with_its_row(
    bundle, rows, tmp_path, refused, quantile
) -> None:
    samples = rows.copy()
    samples[[700, 800], 2] = 3e21
    np.save(tmp_path / "x.npy", samples)
    assert refused("recalibrate", bundle.path, tmp_path / "x.npy", *CHOICE, "--quantile", quantile) == (
        f"{tmp_path}/x.npy: 2 of 1,000 errors are infinite, the first at row 701: readings so far from the "
        "training data are not normal operation; leave them out"
    )


# --- beside the bundle ---------------------------------------------------------------------------


def test_fields_of_a_newer_exporter_belong_to_the_bundle_that_it_is_for(bundle) -> None:
    """They are not known here, yet whoever learns to read them finds the threshold again."""
    with bundle.manifest() as manifest:
        manifest["colour"] = "blue"
    threshold = new_threshold(np.arange(100.0))
    write_threshold(bundle.path, ARTIFACT, threshold)
    assert read_threshold(bundle.path, ARTIFACT) == threshold
    content = (bundle.path / "manifest.json").read_bytes()
    assert edgeae_runtime.load(bundle.path).digest == hashlib.sha256(content).hexdigest()
    assert json.loads(kept(bundle).read_text())["manifest"] == hashlib.sha256(content).hexdigest()
    with bundle.manifest() as manifest:
        manifest["colour"] = "red"
    with pytest.warns(EdgeaeWarning, match="was made for another bundle"):
        assert read_threshold(bundle.path, ARTIFACT) is None


def test_it_is_known_by_the_manifest_too(bundle) -> None:
    write_threshold(bundle.path, ARTIFACT, new_threshold(np.arange(100.0)))
    assert read_threshold(bundle.path, ARTIFACT, edgeae_runtime.Bundle(bundle.path).manifest)


def test_it_is_kept_beside_the_bundle_for_its_artifact_alone(bundle, snapshot) -> None:
    before = snapshot(bundle.path)
    assert read_threshold(bundle.path, ARTIFACT) is None
    one, other = new_threshold(np.arange(100)), new_threshold(np.arange(200))
    assert write_threshold(bundle.path, ARTIFACT, one) == kept(bundle)
    assert write_threshold(bundle.path, "scorer.int8.onnx", other) == kept(bundle)
    assert read_threshold(bundle.path, ARTIFACT) == one
    assert read_threshold(bundle.path, "scorer.int8.onnx") == other
    assert read_threshold(bundle.path, "scorer.int8.tflite") is None
    assert snapshot(bundle.path) == before


def test_of_a_zip_file_too(bundle) -> None:
    path = bundle.zipped()
    write_threshold(path, ARTIFACT, new_threshold(np.arange(100)))
    assert read_threshold(path, ARTIFACT).value == pytest.approx(98.01)
    assert path.with_name("pump.zip.threshold.json").exists()


def test_another_bundle_of_that_name_does_not_take_it(bundle) -> None:
    write_threshold(bundle.path, ARTIFACT, new_threshold(np.arange(100)))
    with bundle.manifest() as manifest:
        manifest["artifacts"][0]["threshold"]["value"] *= 1.01
    with pytest.warns(
        EdgeaeWarning, match=r"was made for another bundle, so the bundle's own threshold hold"
    ):
        assert read_threshold(bundle.path, ARTIFACT) is None
    write_threshold(bundle.path, "scorer.int8.onnx", new_threshold(np.arange(100)))
    assert read_threshold(bundle.path, "scorer.int8.onnx")
    assert read_threshold(bundle.path, ARTIFACT) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"manifest": 3}', b"\xff\xfe"])
def test_a_damaged_file_is_told_and_may_be_written_again(bundle, content) -> None:
    kept(bundle).write_bytes(content)
    with pytest.raises(
        BundleError, match=r"threshold\.json: cannot be read .* --reset\) or recalibrate again$"
    ):
        read_threshold(bundle.path, ARTIFACT)
    write_threshold(bundle.path, ARTIFACT, new_threshold(np.arange(100)))
    assert read_threshold(bundle.path, ARTIFACT)


def test_what_the_bundle_does_not_have_needs_no_threshold(bundle) -> None:
    with pytest.raises(BundleError, match=r"has no scorer\.float16\.onnx, so no threshold can be for it$"):
        write_threshold(bundle.path, "scorer.float16.onnx", new_threshold(np.arange(100)))
    assert not kept(bundle).exists()


def test_a_stream_takes_it_and_knows_its_artifact(bundle, rows) -> None:
    ae = edgeae_runtime.load(bundle.path, engine="onnxruntime", precision="float32")
    assert ae.stream().artifact == ARTIFACT
    threshold = new_threshold([ae.stream().push(row).error for row in rows], quantile=0.9)
    stream = ae.stream(threshold=threshold)
    results = [stream.push(row) for row in rows]
    assert sum(r.anomaly for r in results) == 100
    assert {r.drift for r in results} == {None}  # by the bundle's own quantiles it is one
    assert [r.drift for r in map(ae.stream(drift=edgeae_runtime.Drift(memory=100)).push, rows)][-1]


# --- the command ---------------------------------------------------------------------------------


def test_the_command_sets_a_threshold_from_normal_operation(bundle, readings, rows, run) -> None:
    text = run("recalibrate", bundle.path, readings, "--quantile", "0.95", *CHOICE).stdout
    ae = edgeae_runtime.load(bundle.path, engine="onnxruntime", precision="float32")
    errors = ae.score(rows)
    found = read_threshold(bundle.path, ARTIFACT)
    assert found.value == pytest.approx(np.quantile(errors, 0.95), rel=1e-5)
    assert (
        f"{ARTIFACT}: threshold {found.value:.6g} from 1,000 windows (was {ae.threshold.value:.6g})" in text
    )
    assert f"{np.mean(errors > ae.threshold.value):.2%} of them are above the bundle's own" in text
    assert text.endswith(f"kept in {kept(bundle)}\n")


def test_the_last_minutes_alone_may_count(bundle, readings, rows, run) -> None:
    text = run("recalibrate", bundle.path, readings, "--last", "50", "--json", *CHOICE).stdout
    ae = edgeae_runtime.load(bundle.path, engine="onnxruntime", precision="float32")
    assert json.loads(text)["rows"] == 50
    assert json.loads(text)["value"] == pytest.approx(np.quantile(ae.score(rows[-50:]), 0.99), rel=1e-5)


@pytest.mark.parametrize("options", [[], ["--last", "50"]])
def test_readings_may_be_piped_in(bundle, readings, run, options) -> None:
    expected = run("recalibrate", bundle.path, readings, "--json", *options, *CHOICE).stdout
    words = ["recalibrate", str(bundle.path), "-", "--json", *options, *CHOICE]
    done = click.testing.CliRunner().invoke(main, words, input=readings.read_bytes())
    assert (done.exit_code, done.stdout) == (0, expected)


def test_of_a_series_whole_windows_of_the_last_minutes_count(bundle, readings, run) -> None:
    with bundle.manifest() as manifest:
        manifest["input"].update(shape=[2, 3], window=2, stride=1, features=["speed", "current", "voltage"])
    text = run("recalibrate", bundle.path, readings, "--last", "50", "--json", *CHOICE).stdout
    assert json.loads(text)["rows"] == 49
    assert json.loads(run("recalibrate", bundle.path, readings, "--json", *CHOICE).stdout)["rows"] == 999


def test_reset_removes_it(bundle, run) -> None:
    write_threshold(bundle.path, ARTIFACT, new_threshold(np.arange(100)))
    assert run("recalibrate", bundle.path, "--reset").stdout == f"{kept(bundle)}: removed\n"
    assert not kept(bundle).exists()
    assert run("recalibrate", bundle.path, "--reset").stdout == f"{kept(bundle)}: there is none\n"


def test_last_needs_times(bundle, rows, tmp_path, refused) -> None:
    np.save(tmp_path / "readings.npy", rows)
    told = refused("recalibrate", bundle.path, tmp_path / "readings.npy", "--last", "5")
    assert told.endswith("readings.npy: has no column of times, which --last needs; give the readings alone")
    assert "give the readings alone" in told


def test_too_few_readings_are_refused(bundle, readings, refused) -> None:
    assert refused("recalibrate", bundle.path, readings, "--last", "5").startswith("5 windows of normal")


@pytest.mark.parametrize("arguments", [[], ["x.csv", "--reset"]])
def test_either_data_or_reset(bundle, arguments, installed) -> None:
    done = installed("recalibrate", bundle.path, *arguments)
    assert done.returncode == 2 and done.stderr.endswith("Error: give either DATA or --reset\n")
