"""Bundles of format 1, as 0.1.0 wrote them: read as ever, and as strictly as ever."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgeae_runtime
from edgeae_runtime import Bundle, BundleError, verify
from edgeae_runtime.bundle.codec import decode_manifest, encode_manifest

OLD = Path(__file__).parents[1] / "format1.edgeae"


@pytest.fixture(scope="module")
def content() -> bytes:
    return (OLD / "manifest.json").read_bytes()


def test_it_loads_verifies_and_gives_what_it_gave() -> None:
    bundle = Bundle(OLD)
    assert bundle.manifest.format_version == 1
    assert {check.status for check in verify(bundle)} == {"ok"}
    golden = np.load(OLD / "golden.npz")
    for precision in ("float32", "int8"):
        found = edgeae_runtime.load(OLD, engine="onnxruntime", precision=precision).detect(golden["input"])
        expected = golden[f"scorer.{precision}.onnx:error"]
        np.testing.assert_allclose(found.error, expected, rtol=1e-4)
        np.testing.assert_array_equal(found.anomaly, expected > found.threshold)


def test_what_it_cannot_have_is_absent() -> None:
    manifest = Bundle(OLD).manifest
    assert manifest.id is manifest.needs_runtime is manifest.provenance is manifest.calibration is None
    assert manifest.columns == ()
    assert all(artifact.operators == () for artifact in manifest.artifacts)


def test_its_digest_is_what_it_was_so_that_recalibrated_thresholds_still_belong_to_it(content) -> None:
    manifest = decode_manifest(content, "here")
    assert encode_manifest(manifest) == content
    assert Bundle(OLD).digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(id="0" * 64), "Object contains unknown field `id`"),
        (lambda m: m["scaler"].update(bias=[1]), "Object contains unknown field `bias` - at `$.scaler`"),
        (lambda m: m["artifacts"][0].pop("role"), "missing required field `role` - at `$.artifacts[0]`"),
        (lambda m: m["scaler"].update(gain=[0.0] * 6), "no gain zero"),
        (lambda m: m["artifacts"][0].update(path="../x"), "must be a plain file name"),
    ],
)
def test_it_knows_no_further_fields_and_is_checked_as_any(content, change, reason) -> None:
    manifest = json.loads(content)
    change(manifest)
    with pytest.raises(BundleError) as caught:
        decode_manifest(json.dumps(manifest).encode(), "old.edgeae")
    text = str(caught.value)
    assert text.startswith("old.edgeae: manifest.json is not valid (") and reason in text


def test_info_score_and_recalibrate_take_it(run, tmp_path) -> None:
    folder = shutil.copytree(OLD, tmp_path / "old.edgeae")
    assert "format 1" in run("info", folder).output.splitlines()
    rows = tmp_path / "rows.npy"
    np.save(rows, np.repeat(np.load(OLD / "golden.npz")["input"], 20, axis=0))
    assert run("score", folder, rows).output.count("\n") == 160
    assert "threshold" in run("recalibrate", folder, rows).output
