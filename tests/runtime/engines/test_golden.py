import importlib.util
import json

import numpy as np
import pytest

from edgeae_runtime import Bundle, BundleError, Check, verify

ONNX, TFLITE = "scorer.float32.onnx", "scorer.float32.tflite"
INT8 = {ONNX: "scorer.int8.onnx", TFLITE: "scorer.int8.tflite"}


def runs(path) -> list[tuple[str, str]]:
    """Every artifact with each engine that runs it here."""
    engines = {"onnx": ["onnxruntime"], "tflite": ["litert"]}
    if importlib.util.find_spec("openvino"):
        engines["onnx"].append("openvino")
    return [(a.path, engine) for a in Bundle(path).manifest.artifacts for engine in engines[a.format]]


def statuses(path) -> dict[str, str]:
    return {check.artifact: check.status for check in verify(Bundle(path))}


def failed(path) -> dict[str, str]:
    """What is said of each artifact that failed; one line each."""
    found = {check.artifact: check.detail for check in verify(Bundle(path)) if check.status == "failed"}
    assert not any("\n" in detail for detail in found.values())
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_a_bundle_that_was_just_exported_is_right_folder_or_zip(tiny, tiny_zip, threads) -> None:
    for path in (tiny, tiny_zip):
        checks = verify(Bundle(path), threads=threads)
        assert [(check.artifact, check.engine) for check in checks] == runs(tiny)
        assert {check.status for check in checks} == {"ok"}
        assert all(" of its range; " in check.detail for check in checks)


# --- an artifact that is not what was exported ---------------------------------------------------


@pytest.mark.parametrize("name", [ONNX, TFLITE])
def test_an_altered_artifact_fails_and_the_others_are_still_checked(bundle, name) -> None:
    bundle.write(name, bundle.read(name)[:-1] + b"!")
    assert list(failed(bundle.path)) == [name]
    assert f"{name} was altered (SHA-256 " in failed(bundle.path)[name]
    assert set(statuses(bundle.path).values()) == {"ok", "failed"}


def test_a_missing_artifact_fails(bundle) -> None:
    (bundle.path / ONNX).unlink()
    assert failed(bundle.path) == {ONNX: f"{bundle.path}: {ONNX} is missing; copy the whole bundle again"}


@pytest.mark.parametrize("name", [ONNX, TFLITE])
def test_another_model_whose_hash_agrees_is_revealed_by_the_golden_outputs(bundle, name) -> None:
    bundle.replace(name, bundle.read(INT8[name]))
    found = failed(bundle.path)
    assert list(found) == [name]
    assert found[name].startswith("differs by ")
    assert found[name].endswith(" of its range; at most 0.0001 is allowed")


@pytest.mark.parametrize("name", [ONNX, TFLITE])
@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_a_model_of_another_role_whose_hash_agrees_fails_in_words(bundle, name, role) -> None:
    bundle.replace(name, bundle.read(name.replace("scorer", role)))
    assert "cannot load the scorer: its tensors are " in failed(bundle.path)[name]


@pytest.mark.parametrize("name", [ONNX, TFLITE])
@pytest.mark.parametrize("content", [b"", b"no model" * 100])
def test_a_file_that_is_no_model_whose_hash_agrees_fails_in_words(bundle, name, content) -> None:
    bundle.replace(name, content)
    assert " cannot load the scorer: " in failed(bundle.path)[name]


def test_a_small_difference_between_processors_is_allowed(bundle, golden) -> None:
    key = f"{ONNX}:error"
    bundle.replace_golden(**{key: golden[key] * np.float32(1 + 5e-5)})
    assert failed(bundle.path) == {}
    bundle.replace_golden(**{key: golden[key] * np.float32(1 + 5e-4)})
    assert list(failed(bundle.path)) == [ONNX]


@pytest.mark.parametrize("tensor", ["embedding", "error"])
def test_a_single_nan_is_a_difference(bundle, golden, tensor) -> None:
    key = f"{ONNX}:{tensor}"
    spoilt = golden[key].copy()
    spoilt.flat[-1] = np.nan
    bundle.replace_golden(**{key: spoilt})
    assert failed(bundle.path) == {ONNX: "differs by nan of its range; at most 0.0001 is allowed"}


# --- the golden file -----------------------------------------------------------------------------


def test_without_the_golden_file_nothing_can_be_said(bundle) -> None:
    (bundle.path / "golden.npz").unlink()
    with pytest.raises(BundleError) as caught:
        verify(Bundle(bundle.path))
    assert str(caught.value) == f"{bundle.path}: golden.npz is missing; copy the whole bundle again"


def test_an_altered_golden_file_is_refused(bundle) -> None:
    bundle.write("golden.npz", bundle.read("golden.npz") + b"\0")
    with pytest.raises(BundleError, match=r": golden\.npz was altered \(SHA-256 "):
        verify(Bundle(bundle.path))


def test_a_golden_file_that_the_manifest_does_not_know_is_not_believed(bundle) -> None:
    with bundle.manifest() as manifest:
        del manifest["files"]["golden.npz"]
    with pytest.raises(BundleError) as caught:
        verify(Bundle(bundle.path))
    assert str(caught.value) == (
        f"{bundle.path}: the manifest does not list golden.npz; export the bundle again"
    )


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04K\x01.", b"hello"])
def test_a_golden_file_that_was_never_one_is_refused(bundle, content) -> None:
    bundle.replace("golden.npz", content)
    with pytest.raises(BundleError, match=r"^\S+: the golden inputs cannot be read \(.+\)$"):
        verify(Bundle(bundle.path))


def test_outputs_that_are_missing_in_the_golden_file_are_named(bundle, golden) -> None:
    bundle.keep("scorer.float32.")
    with bundle.manifest() as manifest:
        manifest["artifacts"][0]["path"] = "renamed.onnx"
    bundle.write("renamed.onnx", bundle.read(ONNX))
    assert failed(bundle.path) == {
        "renamed.onnx": "the golden file has no 'renamed.onnx:embedding'; export the bundle again"
    }


@pytest.mark.parametrize("changed", [{"input": np.ones((8, 5), np.float32)}, {f"{ONNX}:error": np.ones(3)}])
def test_a_golden_file_of_other_shapes_is_told(bundle, changed) -> None:
    bundle.replace_golden(**changed)
    assert failed(bundle.path)[ONNX].startswith("its shapes are not those of the golden file (")


# --- files that are nothing to run ---------------------------------------------------------------


def add_c_source(bundle) -> None:
    """Add what an export for microcontrollers adds: a C source, and its header beside it."""
    with bundle.manifest() as manifest:
        artifact = {**manifest["artifacts"][0], "role": "autoencoder", "format": "c"}
        manifest["artifacts"].append({**artifact, "path": "autoencoder.int8.c"})
        manifest["files"]["autoencoder.int8.h"] = ""
    bundle.replace("autoencoder.int8.c", b"int main;")
    bundle.replace("autoencoder.int8.h", b"#pragma once")


def test_c_sources_are_checked_by_their_hash(bundle) -> None:
    add_c_source(bundle)
    assert failed(bundle.path) == {}
    for name in ("autoencoder.int8.c", "autoencoder.int8.h"):
        assert statuses(bundle.path)[name] == "ok"
        whole = bundle.read(name)
        bundle.write(name, b"X" + whole[1:])
        assert f"{name} was altered" in failed(bundle.path)[name]
        bundle.write(name, whole)


# --- engines that are not installed --------------------------------------------------------------


def test_what_has_no_engine_here_is_skipped(tiny, missing) -> None:
    missing("litert")
    by_suffix = {name.rpartition(".")[2]: status for name, status in statuses(tiny).items()}
    assert by_suffix == {"onnx": "ok", "tflite": "skipped"}
    detail = next(check.detail for check in verify(Bundle(tiny)) if check.status == "skipped")
    assert detail.startswith("litert is not installed here (")


def test_an_altered_file_fails_though_its_engine_is_missing(bundle, missing) -> None:
    missing("litert")
    bundle.write(TFLITE, bundle.read(TFLITE) + b"\0")
    assert list(failed(bundle.path)) == [TFLITE]


# --- the command ---------------------------------------------------------------------------------


def test_the_command_lists_what_it_found(tiny, run) -> None:
    lines = run("verify", tiny).stdout.splitlines()
    names = [f"{name} with openvino" if engine == "openvino" else name for name, engine in runs(tiny)]
    assert [line.partition("  differs by ")[0] for line in lines] == [f"ok       {name}" for name in names]


def test_the_command_prints_the_same_as_json(tiny, run) -> None:
    found = json.loads(run("verify", tiny, "--json", "--threads", 2).stdout)
    assert [Check(**check) for check in found] == verify(Bundle(tiny), threads=2)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command_exits_with_3_where_an_artifact_fails(bundle, refused, options) -> None:
    bundle.replace(ONNX, bundle.read(INT8[ONNX]))
    count = len(Bundle(bundle.path).manifest.artifacts)
    assert refused("verify", bundle.path, *options, status=3) == (
        f"{bundle.path}: 1 of {count} artifacts failed: {ONNX}"
    )


def test_the_command_fails_where_nothing_could_be_run(bundle, refused, missing) -> None:
    add_c_source(bundle)  # which needs no engine, and says nothing about this machine
    missing("litert", "onnxruntime", "openvino")
    assert refused("verify", bundle.path, status=3) == (
        f"{bundle.path}: no engine is installed here that runs any of its artifacts"
    )


def test_the_command_is_content_where_one_engine_is_missing(tiny, run, missing) -> None:
    missing("onnxruntime")
    words = {line.split()[0] for line in run("verify", tiny).stdout.splitlines()}
    assert words == {"ok", "skipped"}
