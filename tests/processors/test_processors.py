"""Every kind of bundle says on every processor what it says on the machine that exported it."""

import emulator
import numpy as np
import pytest
from scipy.stats import spearmanr

from edgeae_export.fidelity.limits import DEFAULT_LIMITS
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
PAIRS = [f"{engine}/{precision}" for engine in ("onnxruntime", "litert") for precision in PRECISIONS]
FLOAT32 = 1e-5
"""Of a tensor's range; float16 weights are the same numbers on every machine too."""
INT8 = 1e-3
ONE_BY_ONE = 2 / 255
"""Of a tensor's range: a calibrated step may fall to the other side in a batch of one."""

pytestmark = pytest.mark.slow
each_cpu = pytest.mark.parametrize("cpu", emulator.CPUS)


def pairs_of(said):
    return {name.rpartition("/")[0] for name in said if name.count("/") == 3}


@pytest.mark.parametrize("cpu", emulator.ARM)
def test_the_processor_is_the_one_that_is_meant(device, cpu):
    script = """
import platform, onnxruntime, ai_edge_litert
print(platform.machine(), next(l for l in open("/proc/cpuinfo") if l.startswith("CPU part")).split()[-1])
"""
    done = device(cpu, "-c", script)
    assert done.stdout.split() == ["aarch64", emulator.ARM[cpu]["part"]], done.stderr


def test_every_bundle_has_every_artifact_and_all_sides_ran_them_all(bundles, results):
    made = {path.stem: Bundle(path) for path in bundles.glob("*.edgeae")}
    assert sorted(made) == KINDS
    assert all(len(bundle.manifest.artifacts) == 24 for bundle in made.values())
    assert pairs_of(results["here"]) == {f"{kind}/{pair}" for kind in KINDS for pair in PAIRS}
    for cpu in emulator.CPUS:
        assert str(results[cpu]["machine"]) == ("aarch64" if cpu in emulator.ARM else "x86_64")
        assert results[cpu].keys() == results["here"].keys()


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("kind", KINDS)
@each_cpu
def test_what_is_said_there_is_what_is_said_here(results, cpu, kind, pair):
    allowed = INT8 if pair.endswith(("int8", "dynamic")) else FLOAT32
    compared = {name for name in results["here"] if name.startswith(f"{kind}/{pair}/")}
    assert len(compared) == 9
    for name in sorted(compared):
        right, found = (np.float64(results[side][name]) for side in ("here", cpu))
        assert found.shape == right.shape and np.ptp(right) > 0
        assert np.abs(found - right).max() <= allowed * np.ptp(right), name


@each_cpu
def test_one_by_one_in_a_stream_and_by_the_commands_it_says_the_same(results, cpu):
    said = results[cpu]
    for name in pairs_of(said):
        for tensor in ("error", "embedding"):
            right = np.float64(said[f"{name}/detect.{tensor}"])
            one_by_one = FLOAT32 if name.endswith(("float32", "float16")) else ONE_BY_ONE
            command = "score" if tensor == "error" else "embed"
            for way, allowed in (("single", one_by_one), ("stream", one_by_one), (command, 0)):
                found = np.float64(said[f"{name}/{way}.{tensor}"])
                assert np.abs(found - right).max() <= allowed * np.ptp(right), (name, way, tensor)
        np.testing.assert_array_equal(said[f"{name}/stream.error"], said[f"{name}/single.error"])


@each_cpu
def test_verify_finds_every_artifact_right(bundles, results, cpu):
    for kind in KINDS:
        paths = [artifact.path for artifact in Bundle(bundles / f"{kind}.edgeae").manifest.artifacts]
        found = dict(line.rsplit(" ", 1) for line in results[cpu][f"verify {kind}"].tolist())
        references = {"onnx": "onnxruntime", "tflite": "litert"}
        expected = {f"{path} {references[path.rpartition('.')[2]]}" for path in paths}
        assert {line for line, status in found.items() if status == "ok"} >= expected
        # an engine beside them may refuse what it runs wrong; that nothing of it goes wrong is not promised
        others = {line: status for line, status in found.items() if line not in expected}
        assert set(others.values()) <= {"ok", "refused"} and all("openvino" in line for line in others)


@each_cpu
def test_auto_measures_there_and_scores(results, cpu):
    """The times of an emulator mean nothing; that a choice is made, and told right, does."""
    said = results[cpu]
    assert any(np.array_equal(said["auto"], said[f"dense/{pair}/score.error"]) for pair in PAIRS)


def figures(said, name, right):
    """The gate's: median change of the error, rank correlation, mean cosine."""
    error, code = (np.float64(said[f"{name}/{tensor}"]) for tensor in ("error", "embedding"))
    norms = np.linalg.norm(code, axis=1) * np.linalg.norm(right["embedding"], axis=1)
    return (
        np.median(np.abs(error - right["error"]) / right["error"]),
        spearmanr(error, right["error"]).statistic,
        np.mean(np.sum(code * right["embedding"], axis=1) / norms),
    )


@pytest.mark.parametrize("kind", ["dense", "conv1d"])
@each_cpu
def test_the_gate_would_find_the_same_of_every_candidate(bundles, results, cpu, kind):
    with np.load(bundles / f"{kind}.candidates" / "keras.npz") as keras:
        right = {name: np.float64(values) for name, values in keras.items()}
    names = {name.rpartition("/")[0] for name in results["here"] if name.startswith(f"{kind}.candidates/")}
    assert len(names) == 15
    for name in sorted(names):
        limits = DEFAULT_LIMITS[name.rsplit(".", 2)[1]]
        room = (limits.error_median, 1 - limits.rank_correlation, 1 - limits.embedding_cosine)
        here, there = (figures(results[side], name, right) for side in ("here", cpu))
        assert np.all(np.abs(np.subtract(here, there)) < 0.1 * np.array(room)), (name, here, there)


def test_a_bundle_for_which_an_altered_file_stands_is_refused_there_too(bundles, device, tmp_path):
    source, copy = bundles / "dense.edgeae", tmp_path / "altered.edgeae"
    copy.mkdir()
    for path in source.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    altered = bytearray((copy / "scorer.int8.tflite").read_bytes())
    altered[len(altered) // 2] ^= 1
    (copy / "scorer.int8.tflite").write_bytes(altered)
    script = (
        "from edgeae_runtime.cli.main import main; main(prog_name='edgeae')"  # what the installed one does
    )
    done = device("cortex-a76", "-c", script, "verify", copy)
    assert done.returncode == 3
    assert "scorer.int8.tflite" in done.stderr and "Traceback" not in done.stderr
