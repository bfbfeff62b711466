import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import numpy as np
import onnx
import pytest
from scipy.stats import spearmanr

import edgeae_export
import edgeae_runtime
from edgeae import TrainConfig, train
from edgeae.data.dataset import Data
from edgeae_export import Limits
from edgeae_export.errors import RunError
from edgeae_export.fidelity.limits import DEFAULT_LIMITS
from edgeae_export.formats import onnx as formats_onnx
from edgeae_export.model.load import load_run
from edgeae_export.provenance import bundle_id, provenance
from edgeae_export.quantization import onnx as quantize_onnx
from edgeae_export.quantization import tflite as quantize_tflite
from edgeae_runtime import Bundle, DataError, FidelityError, OutputError, load, verify

ALL = {
    f"{role}.{precision}.{kind}"
    for role in ("encoder", "decoder", "scorer")
    for precision in ("float32", "int8")
    for kind in ("onnx", "tflite")
}


def files(folder):
    """Everything below a folder, by path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


# --- what is written -----------------------------------------------------------------------------


def test_a_bundle_holds_every_artifact_with_its_size_and_hash(case):
    artifacts = {a["path"]: a for a in manifest(case.folder)["artifacts"]}
    assert set(artifacts) == ALL
    assert {path.name for path in case.folder.iterdir()} == {
        *ALL,
        "manifest.json",
        "manifest.sha256",
        "golden.npz",
    }
    for name, artifact in artifacts.items():
        content = (case.folder / name).read_bytes()
        assert artifact["bytes"] == len(content)
        assert artifact["sha256"] == hashlib.sha256(content).hexdigest()
        assert name == "{role}.{precision}.{format}".format(**artifact)
        assert artifact.get("opset") == (17 if name.endswith(".onnx") else None)


def test_the_manifest_says_what_a_device_must_know(case):
    found = manifest(case.folder)
    assert found["format_version"] == 2
    assert found["needs_runtime"] == edgeae_runtime.__version__
    assert found["error"] == "mse"
    assert found["latent_size"] == 8
    assert tuple(found["input"]["shape"]) == case.rows.shape[1:]
    assert found["input"]["features"] == (list(case.source.input.features) if case.rows.ndim == 2 else None)
    assert found["scaler"]["offset"] == list(case.source.scaler.offset)
    assert found["scaler"]["gain"] == list(case.source.scaler.gain)
    assert {"edgeae", "tensorflow", "onnxruntime"} <= set(found["producer"])


def test_a_bundle_knows_its_operators_its_settings_and_the_rows_that_it_was_made_with(case):
    found = manifest(case.folder)
    used = {artifact["path"]: artifact["operators"] for artifact in found["artifacts"]}
    assert used["encoder.float32.tflite"] == sorted(used["encoder.float32.tflite"])
    assert "FULLY_CONNECTED" in used["encoder.float32.tflite"]
    graph = onnx.load(case.folder / "scorer.int8.onnx").graph
    assert used["scorer.int8.onnx"] == sorted({node.op_type for node in graph.node})
    (data,) = found["provenance"]["data"]
    assert data["rows"] == len(case.source.rows)
    assert found["provenance"]["settings"]["latent"] == 8
    assert found["calibration"]["rows"] == min(1024, len(case.source.rows) // 2)


def test_the_id_is_the_models_and_changes_with_weights_scaler_settings_and_data(digits):
    def known(source):
        return bundle_id(source, provenance(source))

    source = digits.source
    first = known(source)
    assert len(first) == 64 and known(source) == first
    scaler = msgspec.structs.replace(source.scaler, offset=(1.0,))
    others = [
        replace(source, scaler=scaler),
        replace(source, rows=source.rows[:-1]),
        replace(source, rows=source.rows.astype(np.float64)),
        replace(source, anomalies=source.rows[:3]),
        replace(source, settings={**source.settings, "seed": 2}),
        replace(source, encoder=source.decoder, decoder=source.encoder),
    ]
    assert len({first, *map(known, others)}) == 1 + len(others)


def test_the_golden_rows_are_held_out_ones_with_what_each_artifact_gives(case, run):
    with np.load(case.folder / "golden.npz") as arrays:
        golden = dict(arrays)
    held_out = {row.tobytes() for row in case.source.rows.astype(np.float32)}
    assert all(row.tobytes() in held_out for row in golden["input"])
    flat = golden["input"].reshape(len(golden["input"]), -1)
    for name in ALL:
        batch = golden["embedding"] if name.startswith("decoder") else flat
        for tensor, values in run(case.folder / name, batch).items():
            np.testing.assert_allclose(golden[f"{name}:{tensor}"].reshape(values.shape), values, rtol=1e-5)


def test_it_verifies_here(case):
    checks = verify(Bundle(case.folder))
    assert {check.artifact: check.status for check in checks} == dict.fromkeys(ALL, "ok")


def test_each_artifact_has_the_threshold_and_the_false_alarms_of_its_own_held_out_errors(case, same_as):
    held_out = case.source.rows[len(case.source.rows) // 2 :]  # the first half is for calibration
    thresholds = set()
    for artifact in manifest(case.folder)["artifacts"]:
        errors, right = same_as(case.folder / artifact["path"], case.source, held_out)
        threshold, fidelity = artifact["threshold"], artifact["fidelity"]
        assert threshold["rows"] == fidelity["rows"] == len(held_out)
        assert threshold["value"] == pytest.approx(np.quantile(errors, 0.99), rel=1e-4)
        for share, value in threshold["quantiles"].items():
            assert value == pytest.approx(np.quantile(errors, float(share)), rel=1e-4)
        assert fidelity["false_alarms"] == np.mean(errors > np.quantile(errors, 0.99))
        if artifact["precision"] == "int8":
            change = np.abs(errors - right) / right
            assert fidelity["error_median"] == pytest.approx(np.median(change), rel=0.05)
            assert fidelity["rank_correlation"] == pytest.approx(spearmanr(errors, right).statistic, abs=1e-4)
            thresholds.add(threshold["value"])
    assert len(thresholds) > 1
    assert manifest(case.folder)["reference"]["value"] == pytest.approx(np.quantile(right, 0.99), rel=1e-5)


@pytest.mark.parametrize(
    ("formats", "precisions"),
    [(("onnx",), ("float32",)), (("tflite",), ("float32",)), (("onnx",), ("int8",))],
)
def test_only_what_is_asked_for_is_made_and_it_is_the_same(
    export, digits, digits_bundle, tmp_path, formats, precisions
):
    found = export(digits.source, tmp_path / "few.edgeae", formats=formats, precisions=precisions)
    wanted = {n for n in ALL if n.split(".")[1] in precisions and n.split(".")[2] in formats}
    made = files(tmp_path / "few.edgeae")
    assert {artifact.path for artifact in found.artifacts} == wanted
    assert set(made) == {*wanted, "manifest.json", "manifest.sha256", "golden.npz"}
    for name in wanted:
        assert made[name] == (digits_bundle / name).read_bytes()


def test_the_manifest_has_a_digest_of_its_own_that_sha256sum_takes(digits_bundle):
    assert Bundle(digits_bundle).sealed
    subprocess.run(["sha256sum", "--check", "--strict", "manifest.sha256"], cwd=digits_bundle, check=True)


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes_wherever_and_however_it_is_exported(
    pump, pump_bundle, tmp_path, monkeypatch
):
    pump.trained.save(tmp_path / "pump.run")
    monkeypatch.chdir(tmp_path)
    edgeae_export.export("pump.run", None, "again.edgeae")
    first = files(pump_bundle)
    assert set(first) == {*ALL, "manifest.json", "manifest.sha256", "golden.npz"}
    assert files(tmp_path / "again.edgeae") == first
    for content in first.values():
        assert b"/tmp" not in content


# --- what is refused -----------------------------------------------------------------------------


@pytest.fixture
def small(digits):
    """For exports that are not to take long."""
    return SimpleNamespace(source=digits.source, what={"formats": ("onnx",), "precisions": ("float32",)})


def spoil(content):
    """Lose the largest weight of each layer of an ONNX model."""
    model = onnx.load_from_string(content)
    for kernel in [c for c in model.graph.initializer if len(c.dims) == 2]:
        values = onnx.numpy_helper.to_array(kernel).copy()
        values.flat[np.abs(values).argmax()] = 0
        kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
    return model.SerializeToString()


def test_a_spoiled_artifact_is_refused_with_the_figures_and_nothing_is_written(
    export, small, tmp_path, monkeypatch
):
    convert = formats_onnx.convert

    def convert_badly(source, role):
        content = convert(source, role)
        return spoil(content) if role == "encoder" else content

    monkeypatch.setattr(formats_onnx, "convert", convert_badly)
    with pytest.raises(FidelityError) as caught:
        export(small.source, tmp_path / "bad.edgeae", **small.what)
    text = str(caught.value)
    assert re.search(
        r"bad\.edgeae: not written, 1 of 3 artifacts refused: encoder\.float32\.onnx: "
        r"the error moves by [\d.]+% \(at most 0\.001%\), rank correlation 0\.\d+ \(at least 0\.99999\)",
        text,
    )
    assert "scorer" not in text
    assert caught.value.exit_status == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "kind"),
    [(quantize_onnx, "onnx"), pytest.param(quantize_tflite, "tflite", marks=pytest.mark.slow)],
)
def test_a_rounding_that_is_too_coarse_is_refused_with_the_figures(
    export, digits, tmp_path, monkeypatch, module, kind
):
    """As it would be by a quantizer that scales all of the raw input, outliers among it, together."""
    quantize = module.quantize

    def quantize_badly(model, role, calibration, *rest):
        return quantize(model, role, calibration if role == "decoder" else 50 * calibration, *rest)

    monkeypatch.setattr(module, "quantize", quantize_badly)
    with pytest.raises(FidelityError) as caught:
        export(digits.source, tmp_path / "bad.edgeae", formats=(kind,), precisions=("int8",))
    assert f"encoder.int8.{kind}: the error moves by " in str(caught.value)
    assert f"scorer.int8.{kind}: the error moves by " in str(caught.value)
    assert "rank correlation 0." in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_whole_when_the_new_one_is_refused(export, small, tmp_path, monkeypatch):
    folder = tmp_path / "pump.edgeae"
    export(small.source, folder, **small.what)
    before = files(tmp_path)
    monkeypatch.setitem(DEFAULT_LIMITS, "float32", Limits(0.5, rank_correlation=1.1, embedding_cosine=0.5))
    with pytest.raises(FidelityError, match=r"3 of 3 .*rank correlation 1\.00000 \(at least 1\.1\)"):
        export(small.source, folder, force=True, **small.what)
    assert files(tmp_path) == before


def test_a_bundle_that_exists_is_kept_unless_forced(export, small, digits_bundle, tmp_path):
    folder = tmp_path / "pump.edgeae"
    shutil.copytree(digits_bundle, folder)
    before = files(tmp_path)
    with pytest.raises(
        OutputError, match=r"pump\.edgeae: exists already; choose another name or pass force=True$"
    ):
        export(small.source, folder, **small.what)
    assert files(tmp_path) == before
    export(small.source, folder, force=True, **small.what)
    assert not list(folder.glob("*.tflite"))
    assert [path.name for path in tmp_path.iterdir()] == ["pump.edgeae"]


def test_a_folder_that_is_no_bundle_is_not_replaced_even_if_forced(export, small, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r": is a folder without manifest\.json, so not one to replace"):
        export(small.source, tmp_path, force=True, **small.what)
    assert files(tmp_path) == {"mine.txt": b"mine"}


def test_twenty_held_out_rows_are_enough_and_nineteen_are_not(export, small, tmp_path):
    few = replace(small.source, rows=small.source.rows[:19])
    with pytest.raises(DataError, match=r"^19 held-out rows are too few .*, at least 20 are needed; "):
        export(few, tmp_path / "few.edgeae", **small.what)
    assert list(tmp_path.iterdir()) == []
    enough = replace(small.source, rows=small.source.rows[:20])
    found = export(enough, tmp_path / "enough.edgeae", **small.what)
    assert {artifact.threshold.rows for artifact in found.artifacts} == {10}


# --- run folders ---------------------------------------------------------------------------------


@pytest.fixture
def run_folder(digits, tmp_path):
    digits.trained.save(tmp_path / "digits.run")
    return tmp_path / "digits.run"


def refused(folder):
    with pytest.raises(RunError) as caught:
        load_run(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(folder))
    return text.removeprefix(str(folder))


def test_a_run_folder_that_is_missing_incomplete_or_damaged_is_told(run_folder, tmp_path):
    assert refused(tmp_path / "none.run") == (
        ": not a run folder (run.json is missing); make one with `edgeae train`"
    )
    for name in ("autoencoder.keras", "holdout.npy", "run.json"):
        path = run_folder / name
        content = path.read_bytes()
        path.unlink()
        assert refused(run_folder) == f": not a run folder ({name} is missing); make one with `edgeae train`"
        for damaged in (content[: len(content) // 2], b"", b"{}"):
            path.write_bytes(damaged)
            assert "cannot be read (" in (text := refused(run_folder)) or "cannot read it (" in text
        path.write_bytes(content)
    load_run(run_folder)


def test_held_out_rows_of_another_shape_are_told(run_folder):
    np.save(run_folder / "holdout.npy", np.zeros((30, 5), np.float32))
    with pytest.raises(DataError, match=r"holdout\.npy has rows \(5,\), run\.json says \(8, 8\)$"):
        load_run(run_folder)


# --- the figures that are promised, on Fashion-MNIST ---------------------------------------------


@pytest.fixture(scope="module", params=["images", "columns of very different units"])
def fashion(request, export, fashion_mnist, other_units, tmp_path_factory):
    """784-128-32-128-784, trained on a slice: its source, other images, its bundle."""
    rows, unseen = fashion_mnist[0][:12_000], fashion_mnist[1][:2_000]
    if request.param != "images":
        rows, unseen = (other_units(part.reshape(len(part), -1) / 255) for part in (rows, unseen))
    trained = train(Data(rows, None), TrainConfig(hidden=(128,), latent=32, epochs=6))
    folder = tmp_path_factory.mktemp("fashion") / "fashion.edgeae"
    export(trained.source, folder)
    return SimpleNamespace(source=trained.source, rows=unseen, folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_fashion_mnist_scored_in_float32_is_as_keras_says(fashion, kind, same_as):
    found, right = same_as(fashion.folder / f"scorer.float32.{kind}", fashion.source, fashion.rows)
    np.testing.assert_allclose(found, right, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
@pytest.mark.parametrize("role", ["encoder", "decoder", "scorer"])
def test_fashion_mnist_in_int8_is_within_the_limits_and_small(fashion, role, kind, same_as, cosine):
    path = fashion.folder / f"{role}.int8.{kind}"
    found, right = same_as(path, fashion.source, fashion.rows)
    assert np.median(np.abs(found - right) / right) <= 0.01
    assert spearmanr(found, right).statistic >= 0.999
    if role != "decoder":
        assert cosine(path, fashion.source, fashion.rows) >= 0.999
    if fashion.rows.ndim == 3:  # a scaler of 784 columns adds 6 kB, which stay in float
        assert path.stat().st_size <= 0.30 * (fashion.folder / f"{role}.float32.{kind}").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_fashion_mnist_one_row_alone_scores_as_in_a_batch_of_a_thousand(fashion, engine):
    autoencoder = load(fashion.folder, engine=engine, precision="float32")
    together = autoencoder.score(fashion.rows[:1000])
    alone = [autoencoder.score(row) for row in fashion.rows[:1000:50]]
    np.testing.assert_allclose(alone, together[::50], rtol=1e-6)
