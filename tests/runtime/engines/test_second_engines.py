"""Engines that run files of which another one made the golden outputs."""

import json
import subprocess
import sys

import numpy as np
import pytest

from edgeae_runtime import Bundle, EngineError, load, verify
from edgeae_runtime.engines.auto import tune
from edgeae_runtime.engines.base import BATCH_ROWS
from edgeae_runtime.engines.registry import engines_of, find_engine, load_engine

onnx = pytest.importorskip("onnx")

# of so small a model int8 is slower on some machines, which is told when it is measured
pytestmark = pytest.mark.filterwarnings("ignore:.*int8 is slower than float32")


@pytest.fixture
def reference(second_engine) -> str:
    return engines_of(find_engine(second_engine).formats[0])[0].name


# --- what they compute ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 33, BATCH_ROWS - 1, BATCH_ROWS, BATCH_ROWS + 1, 300])
def test_any_number_of_rows_gives_what_the_reference_gives(
    tiny, rows, second_engine, reference, count
) -> None:
    for precision, allowed in (("float32", 1e-5), ("int8", 2e-2)):
        found = load(tiny, engine=second_engine, precision=precision)
        expected = load(tiny, engine=reference, precision=precision)
        few = rows[:count]
        for verb in ("embed", "score", "reconstruct"):
            right = getattr(expected, verb)(few)
            scale = np.abs(right).max()
            np.testing.assert_allclose(getattr(found, verb)(few) / scale, right / scale, atol=allowed)
        np.testing.assert_allclose(found.decode(found.embed(few)), found.reconstruct(few), rtol=1e-5)


def test_a_row_s_result_does_not_depend_on_the_rows_beside_it(tiny, rows, second_engine, precision) -> None:
    ae = load(tiny, engine=second_engine, precision=precision)
    together = ae.score(rows[:300])
    for start, stop in ((0, 1), (7, 9), (100, 117), (140, 300)):
        np.testing.assert_allclose(ae.score(rows[start:stop]), together[start:stop], rtol=1e-5, atol=1e-7)


def test_readings_far_from_zero_keep_their_digits(tiny, rows, second_engine, reference) -> None:
    """As of a barometer: what varies is small beside the offset that the scaler subtracts."""
    model = onnx.load_from_string((tiny / "scorer.float32.onnx").read_bytes())
    subtracted = next(node.input[1] for node in model.graph.node if node.op_type == "Sub")
    (offset,) = (constant for constant in model.graph.initializer if constant.name == subtracted)
    values = onnx.numpy_helper.to_array(offset)
    spread = np.float32(2 ** np.ceil(np.log2(np.abs(values).max() * 1000)))
    offset.CopyFrom(onnx.numpy_helper.from_array(values + spread, subtracted))
    far = rows[:200] + spread
    right, found = (
        load_engine(name, model.SerializeToString(), "scorer", 1).run(far)
        for name in (reference, second_engine)
    )
    for a, b in zip(found, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


# --- a file that they cannot run, or run wrong ---------------------------------------------------


def with_operator(content: bytes, operator: str, shape: tuple[int, ...]) -> bytes:
    """A scorer that also puts its input through an operator, and adds nothing of that to its error."""
    model = onnx.load_from_string(content)
    graph, make = model.graph, onnx.helper.make_node
    for node in graph.node:
        node.output[:] = ["own_error" if name == "error" else name for name in node.output]
    for name, value in (
        ("sides", np.array([-1, *shape])),
        ("nothing", np.float32(0)),
        ("axes", np.array([1])),
    ):
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    graph.node.extend(
        [
            make("Slice", ["input", "zero", "four", "axes"], ["four_of_them"]),
            make("Reshape", ["four_of_them", "sides"], ["square"]),
            make(operator, ["square"], ["odd"]),
            make("Mul", ["odd", "nothing"], ["none"]),
            make("Add", ["own_error", "none"], ["error"]),
        ]
    )
    for name, value in (("zero", np.array([0])), ("four", np.array([4]))):
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return bytes(model.SerializeToString())


@pytest.fixture
def unknown(bundle, second_engine):
    """A bundle whose float32 scorer has an operator that OpenVINO does not know, and ONNX Runtime does."""
    assert second_engine == "openvino", "give this engine an operator of its own here"
    name = "scorer.float32.onnx"
    bundle.replace(name, with_operator(bundle.read(name), "Det", (2, 2)))
    return bundle


def test_an_operator_that_it_does_not_know_is_told_in_one_line(
    unknown, rows, second_engine, reference
) -> None:
    assert load(unknown.path, engine=reference, precision="float32").score(rows).shape == (1000,)
    ae = load(unknown.path, engine=second_engine, precision="float32")
    for verb in (ae.score, ae.detect):
        with pytest.raises(EngineError) as caught:
            verb(rows[0])
        assert str(caught.value) == (
            "openvino cannot load the scorer: Model wasn't fully converted. "
            "-- No conversion rule found for operations: Det-17"
        )


def test_what_it_refuses_is_none_the_worse_for_it(unknown, second_engine, reference, run) -> None:
    checks = {(c.artifact, c.engine): c for c in verify(Bundle(unknown.path))}
    assert checks["scorer.float32.onnx", reference].status == "ok"
    refused = checks["scorer.float32.onnx", second_engine]
    assert refused.status == "refused" and refused.detail.endswith("Det-17")
    assert {c.status for c in checks.values()} == {"ok", "refused"}
    lines = run("verify", unknown.path).stdout.splitlines()  # and ends well
    assert f"refused  scorer.float32.onnx with {second_engine}  {refused.detail}" in lines


def test_auto_never_takes_what_it_refuses(unknown, second_engine, monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("EDGEAE_TUNE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pairs = {(p.engine, p.precision): p for p in tune(Bundle(unknown.path)).pairs}
    assert pairs[second_engine, "float32"].refused.endswith("Det-17")
    assert pairs[second_engine, "float32"].microseconds is None
    assert pairs[second_engine, "int8"].refused is None
    found = load(unknown.path, precision="float32")
    assert found.engine != second_engine


def test_what_it_runs_wrong_is_refused_by_the_golden_outputs(tiny, rows, second_engine, monkeypatch) -> None:
    """As OpenVINO does with int8 LSTM layers, where the number of rows is left open."""
    engine = find_engine(second_engine).load()
    right = engine.run
    monkeypatch.setattr(engine, "run", lambda self, batch: [2 * part for part in right(self, batch)])
    checks = [check for check in verify(Bundle(tiny)) if check.engine == second_engine]
    assert {check.status for check in checks} == {"refused"}
    assert all(check.detail.startswith("differs by 1 of its range; at most ") for check in checks)
    pairs = [p for p in tune(Bundle(tiny)).pairs if p.engine == second_engine]
    assert pairs and all(p.refused.startswith("differs by 1 of its range") for p in pairs)


def test_where_the_reference_is_missing_what_it_runs_wrong_has_failed(
    bundle, second_engine, reference, missing
) -> None:
    missing(reference)
    bundle.replace("scorer.float32.onnx", bundle.read("scorer.int8.onnx"))
    found = [(c.engine, c.status) for c in verify(Bundle(bundle.path)) if c.artifact == "scorer.float32.onnx"]
    assert found == [(reference, "skipped"), (second_engine, "failed")]


def test_verify_runs_the_engines_that_it_is_asked_for_besides_the_references(tiny, second_engine) -> None:
    engines = {check.engine for check in verify(Bundle(tiny), engines=[])}
    assert engines == {"onnxruntime", "litert"}
    assert {c.engine for c in verify(Bundle(tiny), engines=[second_engine])} == {*engines, second_engine}


# --- in a process of its own ---------------------------------------------------------------------


def test_a_small_model_alone_in_a_process_is_run(tiny, second_engine) -> None:
    """OpenVINO's own choice of kernels for one row of a few dense layers ends the process (2026.4)."""
    code = f"""
import json, numpy, edgeae_runtime
ae = edgeae_runtime.load({str(tiny)!r}, engine={second_engine!r}, precision="float32", threads=2)
inputs = numpy.load({str(tiny / "golden.npz")!r})["input"]
print(json.dumps([float(ae.detect(inputs[0]).error), ae.score(inputs[:3]).tolist()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    one, several = json.loads(done.stdout)
    np.testing.assert_allclose([one, *several[1:]], several, rtol=1e-5)


def test_calls_in_several_threads_go_on_at_once(tiny, rows, second_engine) -> None:
    """Each thread has what it needs for itself: a call that takes long holds up no other."""
    content = (tiny / "scorer.float32.onnx").read_bytes()
    loaded = load_engine(second_engine, content, "scorer", 2)
    own = [loaded._idle.get() for _ in range(2)]
    assert own == [{}, {}]
    for each in own:
        loaded._idle.put(each)
    loaded.run(rows[:1])
    loaded.run(rows[:1])
    assert sorted(len(loaded._idle.get()) for _ in range(2)) == [0, 1]  # the second call found what was there
