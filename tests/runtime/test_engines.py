import json
import subprocess
import sys

import numpy as np
import pytest

from edgeae_runtime import BundleError, EngineError, load
from edgeae_runtime._engines import BATCH_ROWS, run_batches

BY_ENGINE = {"onnxruntime": "onnx", "litert": "tflite"}
OTHER = {"onnxruntime": "litert", "litert": "onnxruntime"}
VERBS = ["score", "detect", "embed", "reconstruct"]


def told(error: type[Exception], call, *arguments) -> str:
    with pytest.raises(error) as caught:
        call(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- an engine that is missing or refuses --------------------------------------------------------


def missing(monkeypatch, engine: str) -> None:
    """Make the import of an engine fail as it does where it is not installed."""
    module = {"onnxruntime": "onnxruntime", "litert": "ai_edge_litert.interpreter"}[engine]
    monkeypatch.setitem(sys.modules, module, None)


def test_an_engine_that_is_not_installed_is_told_with_the_remedy(tiny, rows, engine, monkeypatch) -> None:
    missing(monkeypatch, engine)
    package = {"onnxruntime": "edgeae-runtime", "litert": "edgeae-runtime[litert]"}[engine]
    ae = load(tiny, engine=engine)
    for verb in VERBS:
        found = told(EngineError, getattr(ae, verb), rows)
        assert found.startswith(f"{engine} is not installed here (")
        assert found.endswith(f"; pip install '{package}'")


def test_one_engine_does_without_the_other(tiny, rows, engine, monkeypatch) -> None:
    missing(monkeypatch, OTHER[engine])
    assert load(tiny, engine=engine).score(rows).shape == (1000,)


def test_an_artifact_that_is_no_model_is_told(bundle, rows, engine) -> None:
    bundle.replace(f"scorer.int8.{BY_ENGINE[engine]}", b"no model" * 100)
    found = told(EngineError, load(bundle.path, engine=engine).score, rows)
    assert found.startswith(f"{engine} cannot load the scorer: ")


@pytest.mark.parametrize(
    ("other", "its", "wanted"),
    [
        ("decoder", "embedding, reconstruction", "input, embedding, error"),
        ("encoder", "input, embedding", "input, embedding, error"),
    ],
)
def test_an_artifact_of_another_role_is_told(bundle, rows, engine, other, its, wanted) -> None:
    suffix = f"float32.{BY_ENGINE[engine]}"
    bundle.replace(f"scorer.{suffix}", bundle.read(f"{other}.{suffix}"))
    found = told(EngineError, load(bundle.path, engine=engine, precision="float32").score, rows)
    assert found == f"{engine} cannot load the scorer: its tensors are {its}; expected {wanted}"


def test_a_manifest_of_another_model_gives_no_rows_of_nonsense(bundle, rows, engine) -> None:
    with bundle.manifest() as manifest:
        manifest["input"].update(shape=[12], features=None)
        manifest["latent_size"] = 4
    ae = load(bundle.path, engine=engine)
    file = f"int8.{BY_ENGINE[engine]}"
    assert told(BundleError, ae.score, np.tile(rows, 2)) == (
        f"{bundle.path}: scorer.{file} takes rows of shape (6,), the manifest says 12 values; "
        "export the bundle again"
    )
    assert f"decoder.{file} takes rows of shape (2,)" in told(BundleError, ae.decode, np.ones((3, 4)))


# --- rows at once --------------------------------------------------------------------------------


class Recorder:
    """An engine that doubles its input, and remembers how many rows it was given at once."""

    shape = (3,)

    def __init__(self) -> None:
        self.counts: list[int] = []

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        self.counts.append(len(batch))
        if len(batch) == 13:
            raise RuntimeError("no luck\n  with this")
        return [batch * 2, batch[:, 0]]


@pytest.mark.parametrize(
    ("precision", "file_format", "counts"),
    [
        ("float32", "onnx", [BATCH_ROWS, BATCH_ROWS, 5]),
        ("int8", "tflite", [BATCH_ROWS, BATCH_ROWS, 5]),
        ("dynamic", "tflite", [BATCH_ROWS, BATCH_ROWS, 5]),
        ("dynamic", "onnx", [1] * (2 * BATCH_ROWS + 5)),  # whose ranges depend on all rows of a call
    ],
)
def test_a_bounded_number_of_rows_is_run_at_once(precision, file_format, counts) -> None:
    batch = np.arange(3.0 * (2 * BATCH_ROWS + 5), dtype=np.float32).reshape(-1, 3)
    engine = Recorder()
    doubled, firsts = run_batches(engine, batch, precision, file_format)
    assert engine.counts == counts
    np.testing.assert_array_equal(doubled, batch * 2)
    np.testing.assert_array_equal(firsts, batch[:, 0])


def test_an_engine_that_fails_on_the_way_is_told_in_one_line() -> None:
    batch = np.zeros((13, 3), np.float32)
    found = told(EngineError, run_batches, Recorder(), batch, "float32", "onnx")
    assert found == "the onnx model cannot be run: no luck with this"


# --- what is imported ----------------------------------------------------------------------------

HEAVY = ["onnxruntime", "ai_edge_litert", "tensorflow", "keras", "onnx", "tf2onnx", "ai_edge_quantizer"]
TRAINING = ["tensorflow", "keras", "onnx", "tf2onnx", "ai_edge_quantizer", "sklearn", "matplotlib", "rich"]


def python(code: str) -> object:
    """Run code in an interpreter of its own; it prints one JSON value."""
    words = [sys.executable, "-c", code]
    found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_importing_the_runtime_imports_no_engine_and_no_training_stack() -> None:
    modules = python("import json, sys, edgeae_runtime; print(json.dumps(list(sys.modules)))")
    modules = {name.partition(".")[0] for name in modules}
    assert "edgeae_runtime" in modules
    assert modules & {*HEAVY, *TRAINING, "edgeae", "edgeae_export", "click"} == set()


def test_all_works_where_there_is_no_training_stack(tiny, golden) -> None:
    code = f"""
import json, sys
sys.modules.update(dict.fromkeys({TRAINING} + ["edgeae", "edgeae_export"]))  # an import of None fails
import edgeae_runtime, numpy
inputs = numpy.load({str(tiny / "golden.npz")!r})["input"]
scores = []
for engine in ("onnxruntime", "litert"):
    ae = edgeae_runtime.load({str(tiny)!r}, engine=engine, precision="float32")
    ae.reconstruct(inputs)
    scores.append(ae.detect(inputs).error.tolist())
checks = edgeae_runtime.verify(edgeae_runtime.Bundle(edgeae_runtime._bundle.Path({str(tiny)!r})))
print(json.dumps([scores, [check.status for check in checks]]))
"""
    scores, statuses = python(code)
    for found, suffix in zip(scores, ("onnx", "tflite"), strict=True):
        np.testing.assert_allclose(found, golden[f"scorer.float32.{suffix}:error"], rtol=1e-3)
    assert set(statuses) == {"ok"}
