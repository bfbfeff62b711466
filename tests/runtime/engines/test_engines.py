import json
import multiprocessing
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pytest

import edgeae_runtime
from edgeae_runtime import BundleError, EngineError, load
from edgeae_runtime.engines import fork
from edgeae_runtime.engines.base import BATCH_ROWS, Engine, run_batches
from edgeae_runtime.engines.litert import _Interpreter
from edgeae_runtime.engines.registry import ENGINES, load_engine

VERBS = ["score", "detect", "embed", "reconstruct"]


def told(error: type[Exception], call, *arguments) -> str:
    with pytest.raises(error) as caught:
        call(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_every_engine_of_the_registry_may_be_asked_for_and_no_other() -> None:
    assert get_args(edgeae_runtime.EngineName) == ("auto", *(record.name for record in ENGINES))


# --- an engine that is missing or refuses --------------------------------------------------------


def test_an_engine_that_is_not_installed_is_told_with_the_remedy(tiny, rows, engine, missing) -> None:
    missing(engine)
    package = "edgeae-runtime" if engine == "onnxruntime" else f"edgeae-runtime[{engine}]"
    ae = load(tiny, engine=engine)
    for verb in VERBS:
        found = told(EngineError, getattr(ae, verb), rows)
        assert found.startswith(f"{engine} is not installed here (")
        assert found.endswith(f"; pip install '{package}'")


def test_on_a_32_bit_system_the_remedy_is_another_system(tiny, rows, engine, missing, monkeypatch) -> None:
    missing(engine)
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    found = told(EngineError, load(tiny, engine=engine).score, rows)
    assert found.startswith(f"{engine} is not installed here (")
    assert found.endswith(
        "; it has no wheels for a 32-bit system: use the 64-bit Raspberry Pi OS (Pi 3 and later)"
    )


def test_one_engine_does_without_the_others(tiny, rows, engine, missing) -> None:
    missing(*(record.name for record in ENGINES if record.name != engine))
    assert load(tiny, engine=engine).score(rows).shape == (1000,)


def test_an_artifact_that_is_no_model_is_told(bundle, rows, engine, file_format) -> None:
    bundle.replace(f"scorer.int8.{file_format}", b"no model" * 100)
    found = told(EngineError, load(bundle.path, engine=engine).score, rows)
    assert found.startswith(f"{engine} cannot load the scorer: ")


@pytest.mark.parametrize(
    ("other", "its", "wanted"),
    [
        ("decoder", "embedding, reconstruction", "input, embedding, error"),
        ("encoder", "input, embedding", "input, embedding, error"),
    ],
)
def test_an_artifact_of_another_role_is_told(bundle, rows, engine, file_format, other, its, wanted) -> None:
    suffix = f"float32.{file_format}"
    bundle.replace(f"scorer.{suffix}", bundle.read(f"{other}.{suffix}"))
    found = told(EngineError, load(bundle.path, engine=engine, precision="float32").score, rows)
    assert found == f"{engine} cannot load the scorer: its tensors are {its}; expected {wanted}"


def test_a_manifest_of_another_model_gives_no_rows_of_nonsense(bundle, rows, engine, file_format) -> None:
    with bundle.manifest() as manifest:
        manifest["input"].update(shape=[12], features=None)
        manifest["latent_size"] = 4
    ae = load(bundle.path, engine=engine)
    file = f"int8.{file_format}"
    assert told(BundleError, ae.score, np.tile(rows, 2)) == (
        f"{bundle.path}: scorer.{file} takes rows of shape (6,), the manifest says 12 values; "
        "export the bundle again"
    )
    assert f"decoder.{file} takes rows of shape (2,)" in told(BundleError, ae.decode, np.ones((3, 4)))


# --- rows at once --------------------------------------------------------------------------------


class Recorder(Engine):
    """An engine that doubles its input, and remembers how many rows it was given at once, and by whom."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self.counts: list[int] = []
        self.callers: set[int] = set()
        self.meeting = threading.Barrier(threads)

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        self.counts.append(len(batch))
        if len(batch) == 13:
            raise RuntimeError("no luck\n  with this")
        if threading.get_ident() not in self.callers:
            self.callers.add(threading.get_ident())
            self.meeting.wait(10)  # until every thread has got a batch
        return [batch * 2, batch[:, 0]]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("precision", "file_format", "counts"),
    [
        ("float32", "onnx", [BATCH_ROWS] * 4 + [5]),
        ("int8", "tflite", [BATCH_ROWS] * 4 + [5]),
        ("dynamic", "tflite", [BATCH_ROWS] * 4 + [5]),
        ("dynamic", "onnx", [1] * (4 * BATCH_ROWS + 5)),  # whose ranges depend on all rows of a call
    ],
)
def test_a_bounded_number_of_rows_is_run_at_once(precision, file_format, counts, threads) -> None:
    batch = np.arange(3.0 * (4 * BATCH_ROWS + 5), dtype=np.float32).reshape(-1, 3)
    engine = Recorder(threads)
    doubled, firsts = run_batches(engine, batch, precision, file_format)
    assert sorted(engine.counts, reverse=True) == counts
    assert len(engine.callers) == threads
    np.testing.assert_array_equal(doubled, batch * 2)
    np.testing.assert_array_equal(firsts, batch[:, 0])


@pytest.mark.parametrize("count", [13, BATCH_ROWS + 13])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_engine_that_fails_on_the_way_is_told_in_one_line(count, threads) -> None:
    engine, batch = Recorder(threads), np.zeros((count, 3), np.float32)
    if count == 13:
        engine.meeting = threading.Barrier(1)
    found = told(EngineError, run_batches, engine, batch, "float32", "onnx")
    assert found == "the onnx model cannot be run: no luck with this"


# --- one row, the fast way -----------------------------------------------------------------------


@pytest.mark.parametrize("arena", [True, False])
def test_one_row_gives_the_same_bits_on_either_way(tiny, rows, engine, file_format, precision, arena) -> None:
    content = (tiny / f"scorer.{precision}.{file_format}").read_bytes()
    loaded = load_engine(engine, content, "scorer", 1, arena=arena)
    one_row = loaded.one_row((2, 3))
    for row in rows[:50]:
        embedding, error = loaded.run(row[np.newaxis])
        found, found_error = one_row(row.reshape(2, 3))
        np.testing.assert_array_equal(found, embedding[0])
        assert found_error == error[0]


def test_litert_s_buffers_may_also_be_laid_out_while_it_runs(tiny, rows, monkeypatch) -> None:
    content = (tiny / "scorer.int8.tflite").read_bytes()
    loaded = load_engine("litert", content, "scorer", 1)
    by_views = [loaded.one_row((6,))(row) for row in rows[:20]]
    monkeypatch.setattr(_Interpreter, "bind", _Interpreter._bind_copies)
    one_row = loaded.one_row((6,))
    by_copies = [one_row(row) for row in rows[:20]]
    for (embedding, error), (other, other_error) in zip(by_views, by_copies, strict=True):
        np.testing.assert_array_equal(embedding, other)
        assert error == other_error


def test_a_row_can_still_be_run_when_only_that_way_through_it_is_kept(tiny, rows) -> None:
    content = (tiny / "scorer.int8.tflite").read_bytes()
    before = sys.getrefcount(content)
    run = load_engine("litert", content, "scorer", 1).one_row((6,))
    assert sys.getrefcount(content) > before  # the native interpreter reads it where it lies
    expected = load_engine("litert", content, "scorer", 1).run(rows[:1])
    np.testing.assert_array_equal(run(rows[0])[0], expected[0][0])


def runs_as_usual(interpreter, content, row) -> None:
    batch, run, (embedding, error), _ = interpreter.bind(1)
    batch[...] = row
    run()
    expected = load_engine("litert", content, "scorer", 1).run(row)
    np.testing.assert_array_equal(embedding, expected[0])
    np.testing.assert_array_equal(error, expected[1])


class Public:
    """An interpreter of a LiteRT whose inside is another, so only what is documented is there."""

    def __init__(self, interpreter) -> None:
        self.wrapped = interpreter

    def __getattr__(self, name: str) -> object:
        if name == "_interpreter":
            raise AttributeError(name)
        return getattr(self.wrapped, name)


def test_a_litert_without_the_inside_that_is_known_is_run_through_copies(tiny, rows) -> None:
    content = (tiny / "scorer.int8.tflite").read_bytes()
    interpreter = _Interpreter(content, "scorer")
    interpreter._interpreter = Public(interpreter._interpreter)
    runs_as_usual(interpreter, content, rows[:1])


class Unlaid:
    """The inside of an interpreter whose outputs have no place before the first run."""

    def __init__(self, native) -> None:
        self.native = native

    def __getattr__(self, name: str) -> object:
        return getattr(self.native, name)

    def tensor(self, base, index):
        if index:
            raise ValueError("Tensor data is null. Run allocate_tensors() first")
        return self.native.tensor(base, index)


def test_an_output_without_a_place_before_the_first_run_is_copied(tiny, rows) -> None:
    content = (tiny / "scorer.int8.tflite").read_bytes()
    interpreter = _Interpreter(content, "scorer")
    assert interpreter._input == 0
    interpreter._interpreter._interpreter = Unlaid(interpreter._interpreter._interpreter)
    runs_as_usual(interpreter, content, rows[:1])


def test_batches_of_changing_sizes_at_once_in_many_threads(tiny, rows, engine, file_format) -> None:
    content = (tiny / f"scorer.int8.{file_format}").read_bytes()
    loaded = load_engine(engine, content, "scorer", 2)
    expected = loaded.run(rows)[1]

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(60):
            start, count = random.integers(0, 900), random.integers(1, 90)
            _, found = loaded.run(np.ascontiguousarray(rows[start : start + count]))
            np.testing.assert_allclose(found, expected[start : start + count], rtol=1e-6)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


# --- after a fork --------------------------------------------------------------------------------


def in_a_child(work) -> None:
    """Run something in a real fork of this process, and expect it to end well within 20 s."""
    child = multiprocessing.get_context("fork").Process(target=work)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: this process has threads
        child.start()
    child.join(20)
    alive = child.is_alive()
    if alive:
        child.kill()
    assert not alive, "the child hangs"
    assert child.exitcode == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_scores_like_its_parent(tiny, rows, engine, precision, threads) -> None:
    ae = load(tiny, engine=engine, precision=precision, threads=threads)
    expected, one = ae.score(rows), ae.score(rows[0])  # loads it, and has its threads started

    def work() -> None:
        assert ae._engines == {}  # nothing that another thread may have held
        np.testing.assert_array_equal(ae.score(rows), expected)
        assert ae.score(rows[0]) == one

    in_a_child(work)
    np.testing.assert_array_equal(ae.score(rows), expected)


def test_a_fork_in_the_middle_of_other_threads_calls_does_no_harm(tiny, rows, engine) -> None:
    ae = load(tiny, engine=engine, threads=2)
    expected, one = ae.score(rows), ae.score(rows[0])
    done = threading.Event()

    def keep_busy() -> None:
        while not done.is_set():
            ae.score(rows[0])
            ae.score(rows)

    def work() -> None:
        assert ae.score(rows[0]) == one
        np.testing.assert_array_equal(ae.score(rows), expected)

    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(keep_busy) for _ in range(2)]
        try:
            for _ in range(5):
                in_a_child(work)
        finally:
            done.set()
        for future in busy:
            future.result()


@pytest.fixture
def computing():
    """A thread that is inside of an engine for half a second, with locks that all of the engine shares."""
    lock, begun = fork.call_lock(), threading.Event()

    def work() -> None:
        with lock:
            begun.set()
            time.sleep(0.5)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        begun.wait()
        yield lock, done
        done.result()


def test_a_fork_waits_for_calls_that_hold_an_engines_own_locks(computing) -> None:
    """OpenVINO has one: beside busy threads, about one child in a hundred would hang."""
    lock, done = computing

    def work() -> None:
        with lock, fork.LOADING:  # as they are in the parent: free
            pass

    in_a_child(work)
    assert done.done()
    with lock, fork.LOADING:
        pass


def test_a_fork_does_not_wait_for_ever(computing, monkeypatch) -> None:
    monkeypatch.setattr(fork, "WAIT_SECONDS", 0.05)
    in_a_child(lambda: None)
    assert not computing[1].done()
    with fork.LOADING:
        pass


# --- what is imported ----------------------------------------------------------------------------

HEAVY = [
    "onnxruntime",
    "ai_edge_litert",
    "openvino",
    "tensorflow",
    "keras",
    "onnx",
    "tf2onnx",
    "ai_edge_quantizer",
]
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


def test_a_first_score_imports_little_besides_the_engine(tiny) -> None:
    code = f"""
import json, sys, numpy, onnxruntime
before = set(sys.modules)
import edgeae_runtime
edgeae_runtime.load({str(tiny)!r}, engine="onnxruntime", precision="int8").detect(numpy.ones(6, "f"))
print(json.dumps(list(set(sys.modules) - before)))
"""
    imported = python(code)
    rooms = {name.split(".")[1] for name in imported if name.startswith("edgeae_runtime.")}
    assert "pathlib" not in imported  # which takes longer than all of the rooms
    assert rooms >= {"autoencoder", "bundle", "engines"}
    assert rooms & {"bench", "bulk", "cli", "readers", "series", "udf", "watch"} == set()


def test_all_names_are_there_though_some_are_imported_late() -> None:
    code = """
import json
import edgeae_runtime
names = edgeae_runtime.__all__
print(json.dumps([sorted(names) == names, set(names) <= set(dir(edgeae_runtime)),
                  [name for name in names if getattr(edgeae_runtime, name, None) is None]]))
"""
    assert python(code) == [True, True, []]
    with pytest.raises(AttributeError, match="has no attribute 'detect'"):
        _ = edgeae_runtime.detect


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
checks = edgeae_runtime.verify(edgeae_runtime.Bundle({str(tiny)!r}))
print(json.dumps([scores, [check.status for check in checks]]))
"""
    scores, statuses = python(code)
    for found, suffix in zip(scores, ("onnx", "tflite"), strict=True):
        np.testing.assert_allclose(found, golden[f"scorer.float32.{suffix}:error"], rtol=1e-3)
    assert set(statuses) == {"ok"}
