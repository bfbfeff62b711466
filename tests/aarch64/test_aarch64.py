"""Every kind of bundle on a Raspberry Pi's processors says what it says on the machine that exported it."""

import json
from concurrent.futures import ThreadPoolExecutor

import emulator
import numpy as np
import pytest

from edgeae_runtime import Bundle

KINDS = sorted(
    [
        "dense",
        "denoising",
        "sparse",
        "contractive",
        "variational",
        "batchnorm",
        "conv1d",
        "conv2d",
        "lstm",
        "gru",
    ]
)
PRECISIONS = ["dynamic", "float16", "float32", "int8"]
STEPS = 2
"""Of 255 that a tensor's range is cut into: what a rounded activation may differ by."""
FLOAT32 = 1e-5
"""Of a tensor's range; float16 weights and dynamic activations are the same numbers on every machine too."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("cpu", emulator.CPUS)
def test_the_processor_is_the_one_that_is_meant(device, cpu):
    script = """
import platform, onnxruntime, ai_edge_litert
print(platform.machine(), next(l for l in open("/proc/cpuinfo") if l.startswith("CPU part")).split()[-1])
"""
    done = device(cpu, "-c", script)
    assert done.stdout.split() == ["aarch64", emulator.CPUS[cpu]["part"]], done.stderr


def test_every_bundle_has_every_artifact_and_both_sides_ran_them_all(bundles, results):
    made = {path.stem: Bundle(path) for path in bundles.glob("*.edgeae")}
    assert sorted(made) == KINDS
    assert all(len(bundle.manifest.artifacts) == 24 for bundle in made.values())
    names = {name.rpartition("/")[0] for name in results["here"]} - {""}
    assert names == {f"{k}/{e}/{p}" for k in KINDS for e in ("onnxruntime", "litert") for p in PRECISIONS}
    assert str(results["here"]["machine"]) != "aarch64"
    for cpu in emulator.CPUS:
        assert str(results[cpu]["machine"]) == "aarch64"
        assert results[cpu].keys() == results["here"].keys()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cpu", emulator.CPUS)
def test_what_is_said_there_is_what_is_said_here(results, cpu, kind, engine, precision):
    allowed = STEPS / 255 if precision in ("int8", "dynamic") else FLOAT32
    compared = {name for name in results["here"] if name.startswith(f"{kind}/{engine}/{precision}/")}
    assert len(compared) == 9
    for name in sorted(compared):
        right, found = (np.float64(results[side][name]) for side in ("here", cpu))
        assert found.shape == right.shape and np.ptp(right) > 0
        assert np.abs(found - right).max() <= allowed * np.ptp(right), name


@pytest.mark.parametrize("cpu", emulator.CPUS)
def test_one_by_one_in_a_stream_and_by_the_commands_it_says_the_same(results, cpu):
    said = results[cpu]
    for name in {name.rpartition("/")[0] for name in said} - {""}:
        for tensor in ("error", "embedding"):
            right = np.float64(said[f"{name}/detect.{tensor}"])
            # a calibrated step may fall to the other side in a batch of one
            one_by_one = FLOAT32 if name.endswith(("float32", "float16")) else STEPS / 255
            command = "score" if tensor == "error" else "embed"
            for way, allowed in (("single", one_by_one), ("stream", one_by_one), (command, 0)):
                found = np.float64(said[f"{name}/{way}.{tensor}"])
                assert np.abs(found - right).max() <= allowed * np.ptp(right), (name, way, tensor)
        np.testing.assert_array_equal(said[f"{name}/stream.error"], said[f"{name}/single.error"])


@pytest.mark.parametrize("cpu", emulator.CPUS)
def test_verify_finds_every_artifact_right(bundles, command, cpu):
    with ThreadPoolExecutor(2) as pool:
        checked = pool.map(lambda kind: command(cpu, "verify", bundles / f"{kind}.edgeae", "--json"), KINDS)
        for kind, done in zip(KINDS, checked, strict=True):
            assert done.returncode == 0, done.stdout + done.stderr
            assert [check["status"] for check in json.loads(done.stdout)] == ["ok"] * 24, kind


@pytest.mark.parametrize("cpu", emulator.CPUS)
def test_auto_measures_there_and_scores(bundles, command, results, cpu, tmp_path):
    """The times of an emulator mean nothing; that a choice is made, and told right, does."""
    data = bundles / "dense.npy"
    done = command(cpu, "score", bundles / "dense.edgeae", data, "-o", tmp_path / "errors.npy")
    assert done.returncode == 0, done.stdout + done.stderr
    errors = np.load(tmp_path / "errors.npy")
    pairs = {name: said for name, said in results[cpu].items() if name.startswith("dense/")}
    assert any(np.array_equal(errors, said) for name, said in pairs.items() if name.endswith("/score.error"))


def test_a_bundle_for_which_an_altered_file_stands_is_refused_there_too(bundles, command, tmp_path):
    source, copy = bundles / "dense.edgeae", tmp_path / "altered.edgeae"
    copy.mkdir()
    for path in source.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    altered = bytearray((copy / "scorer.int8.tflite").read_bytes())
    altered[len(altered) // 2] ^= 1
    (copy / "scorer.int8.tflite").write_bytes(altered)
    done = command("cortex-a76", "verify", copy)
    assert done.returncode == 3
    assert "scorer.int8.tflite" in done.stderr and "Traceback" not in done.stderr
