import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgeae_runtime import Bundle, BundleError, FidelityError, load
from edgeae_runtime.engines import auto as engines_auto
from edgeae_runtime.engines.auto import Pair, Tuning, tune
from edgeae_runtime.engines.registry import ENGINES
from edgeae_runtime.errors import EdgeaeWarning
from edgeae_runtime.machine import processor, timing

# of so small a model int8 is slower on some machines, which is told when it is measured
pytestmark = pytest.mark.filterwarnings("ignore:.*int8 is slower than float32")

HERE = [record.name for record in ENGINES if record.is_installed()]
PAIRS = {(engine, kind) for engine in HERE for kind in ("float32", "int8")}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    """Measuring is on, and nothing is known yet; returns where it is remembered."""
    monkeypatch.delenv("EDGEAE_TUNE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgeae" / "tune"


@pytest.fixture
def measured(monkeypatch) -> list[set[tuple[str, str]]]:
    """The pairs of each measurement; it takes the times that it finds, but a fixed one wins."""
    calls = []
    original = timing.interleave

    def spy(pairs, **settings):
        calls.append(set(pairs))
        return original(pairs, **settings)

    monkeypatch.setattr(timing, "interleave", spy)
    return calls


def pair(engine: str, precision: str, microseconds: float | None) -> Pair:
    return Pair(engine=engine, precision=precision, microseconds=microseconds, error_median=0.01)


def chosen(path, **asked) -> tuple[str, str]:
    ae = load(path, **asked)
    return ae.engine, ae.precision


def remember(cache: Path, **times: float) -> None:
    """Change the times in the only file of the cache; a name is ``engine_precision``, others are slow."""
    (file,) = cache.iterdir()
    found = msgspec.json.decode(file.read_bytes(), type=Tuning)
    table = [
        msgspec.structs.replace(p, microseconds=times.get(f"{p.engine}_{p.precision}", 1e6))
        for p in found.pairs
    ]
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, pairs=tuple(table))))


# --- which is the best ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "best"),
    [
        ({"int8": 10, "float32": 30}, "int8"),
        ({"int8": 10, "float32": 10.9}, "float32"),  # as good as equal: the more precise one
        ({"int8": 10, "float32": 11.1}, "int8"),
        ({"int8": 10, "float32": 9}, "float32"),
        ({"int8": 10, "float16": 10.5, "float32": 10.9}, "float32"),
        ({"int8": 10, "float16": 10.5, "float32": 12}, "float16"),
        ({"int8": 10, "float32": None}, "int8"),  # refused
        ({"float32": None}, None),
    ],
)
def test_the_fastest_is_best_and_of_close_ones_the_most_precise(times, best) -> None:
    pairs = tuple(pair("litert", precision, time) for precision, time in times.items())
    found = Tuning(key={}, pairs=pairs).best({(p.engine, p.precision) for p in pairs})
    assert (found and found.precision) == best


def test_of_two_engines_with_one_precision_the_faster_is_best() -> None:
    pairs = (pair("onnxruntime", "float32", 10.0), pair("litert", "float32", 9.9))
    assert Tuning(key={}, pairs=pairs).best(PAIRS).engine == "litert"
    assert Tuning(key={}, pairs=pairs).best({("onnxruntime", "float32")}).engine == "onnxruntime"


@pytest.mark.parametrize(
    ("int8", "float32", "said"),
    [
        (
            (20.0, 12.0),
            (10.0, 15.0),
            "int8 is slower than float32 on this processor (avx2): 12.0 µs and 10.0 µs",
        ),
        ((10.5, None), (10.0, 15.0), None),
        ((None, None), (10.0, 15.0), None),  # not installed, or not there: nothing to say
    ],
)
def test_it_is_said_where_int8_is_slower_here(monkeypatch, int8, float32, said) -> None:
    monkeypatch.setattr(processor, "kind", lambda: "avx2")
    engines = ("onnxruntime", "litert")
    times = [
        (engine, name, t)
        for name, of in (("int8", int8), ("float32", float32))
        for engine, t in zip(engines, of, strict=True)
    ]
    found = Tuning(key={}, pairs=tuple(pair(*each) for each in times)).about_int8()
    assert (found and found.removesuffix(" a call")) == said


def test_auto_tells_that_int8_is_refused_here(bundle, golden, monkeypatch) -> None:
    """As on a processor whose sums overflow, for a bundle of before."""
    monkeypatch.setattr(processor, "kind", lambda: "avx2")
    bundle.replace_golden(**{"scorer.int8.onnx:error": golden["scorer.int8.onnx:error"] * 2})
    engines = "onnxruntime( and openvino)?"
    with pytest.warns(
        EdgeaeWarning, match=rf"int8 with {engines} is refused on this processor \(avx2\): it dif"
    ):
        load(bundle.path)


# --- measuring, and remembering it ---------------------------------------------------------------


def test_auto_measures_once_and_then_remembers(tiny, cache, measured) -> None:
    first = chosen(tiny)
    assert measured == [PAIRS]
    assert first in PAIRS
    assert chosen(tiny) == first
    assert len(measured) == 1
    remember(cache, onnxruntime_float32=90, onnxruntime_int8=30, litert_float32=50, litert_int8=40)
    assert chosen(tiny) == ("onnxruntime", "int8")
    assert chosen(tiny, engine="litert") == ("litert", "int8")
    assert chosen(tiny, precision="float32") == ("litert", "float32")
    assert chosen(tiny, engine="onnxruntime", precision="float32") == ("onnxruntime", "float32")
    assert len(measured) == 1
    tune(Bundle(tiny))
    assert len(measured) == 2
    assert len(list(cache.iterdir())) == 1


def test_what_is_not_left_to_auto_is_not_measured(tiny, cache, measured) -> None:
    assert chosen(tiny, engine="litert")[0] == "litert"
    assert measured == [{("litert", "int8"), ("litert", "float32")}]
    assert chosen(tiny, precision="int8")[1] == "int8"
    asked = {("litert", "float32"), *((engine, "int8") for engine in HERE)}
    assert measured[1:] == [asked]  # one run for all that was asked so far
    for _ in range(2):
        load(tiny, engine="litert")
        load(tiny, precision="int8")
    assert len(measured) == 2


def test_one_candidate_is_taken_without_a_measurement(bundle, cache, measured) -> None:
    bundle.keep(".int8.tflite")
    assert chosen(bundle.path) == ("litert", "int8")
    assert not measured
    assert not cache.exists()


@pytest.mark.parametrize("asked", [{"threads": 2}, {"rows": 300}, {"arena": False}])
def test_another_use_is_measured_for_itself(tiny, cache, measured, asked) -> None:
    load(tiny)
    load(tiny, **asked)
    assert len(measured) == 2
    load(tiny, **asked)
    assert len(measured) == 2


def test_another_bundle_engine_or_processor_is_measured_for_itself(bundle, monkeypatch, measured) -> None:
    load(bundle.path)
    with bundle.manifest() as manifest:
        manifest["scaler"]["offset"][0] += 1e-3
    load(bundle.path)
    assert len(measured) == 2
    monkeypatch.setattr(processor, "make", lambda: "Cortex-A76")
    load(bundle.path)
    assert len(measured) == 3
    monkeypatch.setattr(engines_auto, "_versions", lambda module: [f"{module}-9.9.9.dist-info"])
    load(bundle.path)
    assert len(measured) == 4


def test_the_versions_of_the_engines_and_the_processor_are_known(tiny) -> None:
    from importlib.metadata import version

    key = tune(Bundle(tiny)).key
    assert f"onnxruntime-{version('onnxruntime')}." in key["engines"]
    assert f"ai_edge_litert-{version('ai-edge-litert')}." in key["engines"]
    assert key["machine"].split()[0] == os.uname().machine
    assert len(key["machine"].split()) > 1


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b'{"key": {}, "pairs": []}', b"\xff" * 100])
def test_a_damaged_cache_is_measured_again(tiny, cache, measured, damage) -> None:
    load(tiny)
    (file,) = cache.iterdir()
    file.write_bytes(damage)
    load(tiny)
    assert len(measured) == 2
    assert msgspec.json.decode(file.read_bytes(), type=Tuning).pairs


def test_a_cache_that_cannot_be_written_is_no_error(tiny, tmp_path, measured, monkeypatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert chosen(tiny) in PAIRS
    assert chosen(tiny) in PAIRS
    assert len(measured) == 2


def test_a_full_disk_is_no_error(tiny, cache, full_disk, monkeypatch) -> None:
    monkeypatch.setattr(processor, "make", lambda: "x" * 5000)
    with full_disk():
        assert chosen(tiny) in PAIRS
    assert not list(cache.iterdir())


def test_without_a_home_the_cache_is_in_the_users_folder(tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    load(tiny)
    assert len(list((tmp_path / ".cache" / "edgeae" / "tune").iterdir())) == 1


def test_it_can_be_switched_off(tiny, cache, measured, monkeypatch) -> None:
    monkeypatch.setenv("EDGEAE_TUNE", "off")
    assert chosen(tiny) == ("onnxruntime", "int8")
    assert not measured
    assert not cache.exists()


# --- what is not right is not chosen -------------------------------------------------------------


def test_a_model_that_is_wrong_here_is_never_chosen(bundle, golden) -> None:
    for suffix in ("onnx", "tflite"):
        bundle.replace_golden(**{f"scorer.int8.{suffix}:error": golden[f"scorer.int8.{suffix}:error"] * 2})
    with pytest.warns(
        EdgeaeWarning, match="int8 with onnxruntime(, litert and openvino| and litert) is refused"
    ):
        assert chosen(bundle.path)[1] == "float32"
    refused = {(p.engine, p.precision): p.refused for p in tune(Bundle(bundle.path)).pairs}
    assert refused["litert", "float32"] is refused["onnxruntime", "float32"] is None
    for engine in ("litert", "onnxruntime"):
        assert refused[engine, "int8"].startswith("differs by 0.5 of its range")
    assert chosen(bundle.path, precision="int8", engine="litert") == ("litert", "int8")  # asked for


def test_where_nothing_is_right_auto_refuses_and_a_named_pair_runs(bundle, golden, cache) -> None:
    bundle.replace_golden(**{name: array * 2 for name, array in golden.items() if ":error" in name})
    with pytest.raises(FidelityError, match=r"no model of it gives its golden outputs .*\(differs by 0\.5"):
        load(bundle.path)
    assert not cache.exists()
    assert load(bundle.path, engine="onnxruntime", precision="int8").engine == "onnxruntime"


def test_a_file_that_was_repaired_is_chosen_again(bundle, cache) -> None:
    names = ["scorer.int8.onnx", "scorer.int8.tflite"]
    whole = [(bundle.path / name).read_bytes() for name in names]
    for name in names:
        (bundle.path / name).write_bytes(b"damaged")
    assert chosen(bundle.path)[1] == "float32"
    for name, content in zip(names, whole, strict=True):
        (bundle.path / name).write_bytes(content)
    chosen(bundle.path)
    kept = msgspec.json.decode(next(cache.rglob("*.json")).read_bytes())
    assert {pair["precision"] for pair in kept["pairs"]} >= {"int8", "float32"}


def test_a_damaged_golden_file_costs_the_measurement_but_not_the_bundle(bundle, rows, cache) -> None:
    bundle.write("golden.npz", b"no zip")
    assert chosen(bundle.path) == ("onnxruntime", "int8")
    assert load(bundle.path).score(rows[0]) >= 0
    with pytest.raises(BundleError, match=r"golden\.npz was altered"):
        tune(Bundle(bundle.path))


def test_an_engine_that_is_not_installed_is_not_chosen(tiny, rows, missing) -> None:
    missing("litert", "openvino")
    ae = load(tiny)
    assert ae.engine == "onnxruntime"
    assert ae.score(rows[0]) >= 0
    table = {(p.engine, p.precision): p for p in tune(Bundle(tiny)).pairs}
    assert "pip install 'edgeae-runtime[litert]'" in table["litert", "int8"].refused
    assert {engine for engine, _ in table} == {"onnxruntime", "litert"}  # others are not even missed


def test_a_bundle_without_a_scorer_is_measured_by_its_encoder(bundle, rows, measured) -> None:
    bundle.keep("encoder.")
    ae = load(bundle.path)
    assert measured == [PAIRS]
    assert ae.embed(rows).shape == (1000, 2)


def test_a_precision_with_only_an_encoder_is_taken_where_it_is_asked_for_and_else_not(bundle, rows) -> None:
    with bundle.manifest() as manifest:
        kept = [a for a in manifest["artifacts"] if (a["role"], a["precision"]) != ("scorer", "int8")]
        manifest["artifacts"] = kept
    assert chosen(bundle.path)[1] == "float32"
    assert chosen(bundle.path, precision="int8")[1] == "int8"
    ae = load(bundle.path, engine="litert", precision="int8")
    assert ae.embed(rows).shape == (1000, 2)
    with pytest.raises(BundleError, match="has no scorer of precision int8 for litert"):
        ae.score(rows[0])


# --- in a process of its own ---------------------------------------------------------------------


def test_a_known_choice_imports_its_engine_alone(tiny, cache, golden) -> None:
    load(tiny)
    remember(cache, onnxruntime_float32=20, onnxruntime_int8=30, litert_float32=50, litert_int8=40)
    code = f"""
import json, sys, edgeae_runtime, numpy
ae = edgeae_runtime.load({str(tiny)!r})
before = [name for name in sys.modules if name.partition(".")[0] in ("onnxruntime", "ai_edge_litert")]
ae.detect(numpy.ones(6, "f"))
print(json.dumps([ae.engine, ae.precision, before, "ai_edge_litert" in sys.modules]))
"""
    words = [sys.executable, "-c", code]
    found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(found.stdout) == ["onnxruntime", "float32", [], False]


# --- the command ---------------------------------------------------------------------------------


def test_the_command_shows_all_pairs_and_has_auto_take_the_best(tiny, cache, run, measured) -> None:
    load(tiny)
    lines = run("tune", tiny).stdout.splitlines()
    assert len(measured) == 2
    assert lines[0].split() == ["engine", "precision", "p50", "µs", "ratio", "error", "moves"]
    table, (_, choice, *_) = lines[1 : 1 + len(PAIRS)], lines[1 + len(PAIRS) :]
    assert {tuple(line.split()[:2]) for line in table} == PAIRS
    assert "1.00" in {line.split()[3] for line in table}
    assert choice == "auto: " + " ".join(chosen(tiny))
    assert len(measured) == 2


def test_the_command_prints_json(tiny, run) -> None:
    found = json.loads(run("tune", tiny, "--json", "--threads", 2, "--rows", 200).stdout)
    assert found["key"]["asked"] == "threads=2 rows=200 arena=True"
    assert {(entry["engine"], entry["precision"]) for entry in found["pairs"]} == PAIRS
    assert all(entry["microseconds"] > 0 and entry["refused"] is None for entry in found["pairs"])
    ae = load(tiny, threads=2, rows=200)
    assert found["chosen"] == {"engine": ae.engine, "precision": ae.precision}


def test_the_command_says_why_a_pair_was_refused_and_fails_where_all_are(
    bundle, golden, refused, run
) -> None:
    names = [name for name in golden if ":error" in name]
    bundle.replace_golden(
        **{name: golden[name] * 2 for name in names if "litert" in name or "tflite" in name}
    )
    lines = run("tune", bundle.path).stdout.splitlines()
    bad = [line for line in lines[1:5] if line.startswith("litert")]
    assert all("differs by 0.5 of its range" in line and line.split()[2:4] == ["-", "-"] for line in bad)
    bundle.replace_golden(**{name: golden[name] * 2 for name in names})
    assert refused("tune", bundle.path) == (
        f"{bundle.path}: no engine here runs any of its models right; see `edgeae verify`"
    )


def test_measured_results_are_those_of_the_pair(tiny, rows) -> None:
    auto = load(tiny)
    same = load(tiny, engine=auto.engine, precision=auto.precision)
    np.testing.assert_array_equal(auto.score(rows), same.score(rows))
