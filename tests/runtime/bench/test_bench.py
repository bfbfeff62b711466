import json
import os
import re
import sys
import time

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import bootstrap

from edgeae_runtime import Bundle, Fidelity
from edgeae_runtime.bench import cold
from edgeae_runtime.bench.cold import cold_starts
from edgeae_runtime.bench.report import Report, Timing, advise
from edgeae_runtime.cli import bench
from edgeae_runtime.cli.main import main
from edgeae_runtime.engines.registry import ENGINES
from edgeae_runtime.machine.host import caveats, describe
from edgeae_runtime.machine.timing import RESAMPLES, Interval, interleave, percentiles, ratio

CALM = {
    "processor": "Cortex-A76",
    "cores": 4,
    "system": "Linux-6.12-aarch64, Python 3.13.1",
    "load": 0.2,
    "governors": ["performance"],
    "temperature": 50.0,
    "throttled": 0,
}


def timing(candidate, p50, faster=None, error=0.0, threads=1):
    fidelity = Fidelity(
        rows=1000,
        error_median=error,
        error_p99=3 * error,
        rank_correlation=1.0,
        false_alarms=0.01,
        false_alarms_reference=0.01,
    )
    return Timing(
        candidate=candidate,
        precision=candidate.split()[1],
        threads=threads,
        rows=1,
        p50=p50,
        p90=p50,
        p99=p50,
        rows_per_second=1e6 / p50,
        faster=Interval(*faster) if faster else None,
        fidelity=fidelity,
    )


SAME = (1.0, 1.0, 1.0)


def test_int8_is_recommended_with_its_gain_and_its_error_where_the_interval_is_above_one():
    table = [
        timing("onnxruntime float32", 14.0, (0.7, 0.69, 0.71)),
        timing("litert float32", 10.0, SAME),
        timing("onnxruntime int8", 15.0, (0.66, 0.6, 0.7), 0.002),
        timing("litert int8", 3.2, (3.13, 3.0, 3.2), 0.0034),
    ]
    assert advise(table) == (
        "litert int8, 1 thread: 3.1 times faster than float32, "
        "the error moves by 0.34% (median) to 1.02% (99th percentile)"
    )


def test_int8_is_dismissed_where_the_interval_is_below_one():
    table = [timing("litert float32", 10.0, SAME), timing("litert int8", 20.0, (0.5, 0.4, 0.6), 0.002)]
    assert advise(table) == "litert float32, 1 thread: int8 does not pay on this CPU"


@pytest.mark.parametrize("p50", [9.0, 11.0])
def test_nothing_is_said_of_int8_where_the_interval_includes_one(p50):
    table = [
        timing("litert float32", 10.0, SAME, threads=2),
        timing("litert int8", p50, (1.0, 0.9, 1.1), 0.01),
    ]
    assert (
        advise(table) == "litert float32, 2 threads: whether int8 is any faster cannot be told from this run"
    )


@pytest.mark.parametrize("precision, missing", [("float32", "quantized"), ("int8", "float32")])
def test_without_a_model_to_compare_with_that_is_said(precision, missing):
    expected = f"litert {precision}, 1 thread alone: there is no {missing} model here to compare with"
    assert advise([timing(f"litert {precision}", 10.0)]) == expected


def in_rounds(medians):
    """Calls (rounds, 3) with these medians in each round."""
    return np.stack([medians / 2, 9 * medians, medians], axis=1)


def test_the_interval_of_a_ratio_is_scipys_paired_percentile_bootstrap():
    rng = np.random.default_rng(4)
    noise = rng.lognormal(0, 0.4, 37)  # of the machine: the same for both in a round
    a, b = 3e-6 * noise * rng.lognormal(0, 0.1, 37), 1e-6 * noise * rng.lognormal(0, 0.1, 37)
    expected = bootstrap(
        (a, b),
        lambda x, y, axis: np.median(x, axis=axis) / np.median(y, axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    estimate, low, high = ratio(in_rounds(a), in_rounds(b), seed=5)
    assert estimate == np.median(a) / np.median(b)
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_pairing_by_round_takes_out_what_disturbs_both():
    noise = np.random.default_rng(1).lognormal(0, 1, 50)
    assert ratio(in_rounds(2 * noise), in_rounds(noise)) == pytest.approx((2, 2, 2))
    _, low, high = ratio(in_rounds(2 * noise), in_rounds(np.roll(noise, 1)))
    assert high - low > 0.5


def test_an_interval_holds_the_true_ratio_about_as_often_as_it_says():
    rng, held = np.random.default_rng(2), 0
    for seed in range(200):
        a, b = rng.lognormal(np.log(2), 0.3, (1, 40))[0], rng.lognormal(0, 0.3, 40)
        _, low, high = ratio(in_rounds(a), in_rounds(b), seed=seed)
        held += low <= 2 <= high
    assert 0.9 <= held / 200 <= 0.99


@given(st.lists(st.floats(1e-7, 10), min_size=1, max_size=50))
def test_percentiles_are_numpys_in_microseconds(seconds):
    expected = np.percentile(np.array(seconds) * 1e6, [50, 90, 99])
    assert percentiles(seconds) == pytest.approx(expected)


def test_all_candidates_take_turns_in_changing_order_and_are_called_equally_often():
    order = []

    def candidate(name):
        def call():
            order.append(name)
            time.sleep(0.0025)  # longer than its share of a round: called once in each

        return call

    found = interleave({name: candidate(name) for name in "abc"}, seconds=0.1, seed=3)
    turns = order[3 * 4 :]  # after each one's warm-up
    rounds = [turns[i : i + 3] for i in range(0, len(turns), 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1
    assert {times.shape for times in found.values()} == {(len(rounds), 1)}


def test_one_whose_first_call_compiles_is_timed_like_any_other():
    waits = iter([0.25])  # the first call alone

    def call():
        time.sleep(next(waits, 0.0001))

    times = interleave({"compiled": call}, seconds=0.01)["compiled"]
    assert times.shape[1] > 1 and np.max(times) < 0.2


def test_a_quick_candidate_is_called_many_times_a_round_besides_one_that_does_not_count():
    calls = {"quick": 0}

    def quick():
        calls["quick"] += 1

    times = interleave({"quick": quick, "slow": lambda: time.sleep(0.003)}, seconds=0.05)
    rounds, count = times["quick"].shape
    assert rounds >= 5 and count > 50
    assert calls["quick"] == 4 + rounds * (count + 1)
    assert times["slow"].shape == (rounds, 1)
    assert np.median(times["quick"]) < np.median(times["slow"])


def test_nothing_takes_no_time():
    assert interleave({}, seconds=1e9) == {}


def test_a_calm_machine_raises_no_doubt():
    assert caveats(CALM, CALM) == []


@pytest.mark.parametrize(
    "before, after, expected",
    [
        ({"load": 3.0}, {}, "other programs were running (load 3.0 on 4 cores)"),
        (
            {},
            {"governors": ["powersave"]},
            "the CPU governor is powersave; for steady figures set it to performance",
        ),
        ({}, {"temperature": 83.2}, "the processor is at 83 °C and may slow down"),
        (
            {},
            {"throttled": 0x50005},
            "the firmware reports too low a voltage or throttling, now or since its start "
            "(vcgencmd get_throttled: 0x50005)",
        ),
    ],
)
def test_what_makes_figures_doubtful_is_told(before, after, expected):
    assert caveats(CALM | before, CALM | after) == [expected]


def test_sysfs_is_read_and_what_is_not_there_is_not_told(tmp_path):
    for core, governor in enumerate(["ondemand", "performance", "ondemand"]):
        folder = tmp_path / f"devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor + "\n")
    for zone, said in enumerate(["61500\n", "", "48000\n"]):
        folder = tmp_path / f"class/thermal/thermal_zone{zone}"
        folder.mkdir(parents=True)
        (folder / "temp").write_text(said)
    found = describe(tmp_path)
    assert (found["governors"], found["temperature"]) == (["ondemand", "performance"], 61.5)
    bare = describe(tmp_path / "none")
    assert (bare["governors"], bare["temperature"]) == ([], None)
    assert bare["cores"] == len(os.sched_getaffinity(0))


def test_fresh_processes_tell_their_time_and_memory_and_one_that_fails_its_last_line(bundle, golden):
    bundle.keep("float32")
    pairs = [("litert", "int8"), ("litert", "float32")]
    bad, good = cold_starts(bundle.path, pairs, golden["input"][0])
    assert bad[:2] == (None, None)
    assert re.match(r"a fresh process cannot run it \(.*BundleError: .*int8", bad[2])
    assert 0 < good[0] < 60
    assert 5e6 < good[1] < 2e9
    assert good[2] is None


@pytest.fixture(scope="module")
def measured(tiny, tmp_path_factory):
    """The command's text, JSON and picture for the tiny bundle."""
    folder = tmp_path_factory.mktemp("bench")
    words = ["bench", tiny, "--seconds", "0.2", "--batch", "1", "--batch", "300"]
    words += ["--json", folder / "b.json", "--plot", folder / "b.png"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result, json.loads((folder / "b.json").read_bytes()), folder / "b.png"


@pytest.mark.slow
def test_the_json_holds_each_scorer_with_size_fidelity_and_cold_start(measured, tiny):
    _, report, _ = measured
    scorers = {a.path: a for a in Bundle(tiny).manifest.artifacts if a.role == "scorer" and a.format != "c"}
    assert {model["artifact"] for model in report["models"]} == set(scorers)
    for model in report["models"]:
        artifact = scorers[model["artifact"]]
        assert model["bytes"] == (tiny / artifact.path).stat().st_size
        assert model["fidelity"] == msgspec.to_builtins(artifact.fidelity)
        assert model["cold_seconds"] > 0 and model["cold_bytes"] > 5e6
        assert model["reason"] is None
    assert report["format_version"] == 1
    assert "/" not in report["bundle"]
    assert msgspec.json.decode(json.dumps(report), type=Report).bundle == "tiny.edgeae"


@pytest.mark.slow
def test_the_json_holds_each_candidate_and_threads_only_where_rows_are_shared(measured):
    _, report, _ = measured
    found = {(t["candidate"], t["rows"], t["threads"]) for t in report["timings"]}
    engines = [record.name for record in ENGINES if record.is_installed()]
    names = [f"{engine} {precision}" for engine in engines for precision in ("float32", "int8")]
    assert found == {(name, *rest) for name in names for rest in [(1, 1), (300, 1), (300, 2)]}
    for timing in report["timings"]:
        assert 0 < timing["p50"] <= timing["p90"] <= timing["p99"]
        estimate, low, high = timing["faster"]
        assert low <= estimate <= high
    for rows in (1, 300):
        exact = [t for t in report["timings"] if t["rows"] == rows and t["precision"] == "float32"]
        assert sum(t["faster"] == [1, 1, 1] for t in exact) == 1
    assert set(report["advice"]) == {"1", "300"}


@pytest.mark.slow
def test_the_text_has_both_tables_and_the_advice(measured):
    result, report, _ = measured
    for model in report["models"]:
        assert f"\n{model['artifact']} " in result.stdout
        assert (f"\n{model['artifact']} with {model['engine']} " in result.stdout) == (
            model["engine"] == "openvino"
        )
    assert f"\n1 row a call: {report['advice']['1']}\n" in result.stdout
    assert result.stdout.endswith(f"\n300 rows a call: {report['advice']['300']}\n")
    assert result.stderr == ""


@pytest.mark.slow
def test_the_picture_is_one(measured):
    with Image.open(measured[2]) as picture:
        assert picture.format == "PNG"
        assert picture.width > 800
        assert len(np.unique(np.asarray(picture).reshape(-1, 4), axis=0)) > 10


def test_an_artifact_that_is_wrong_here_is_a_line_with_the_reason(bundle, golden, run, tmp_path):
    bundle.keep("tflite")
    bundle.replace_golden(**{"scorer.int8.tflite:error": 2 * golden["scorer.int8.tflite:error"]})
    words = ["--seconds", "0.05", "--batch", "1", "--json", tmp_path / "b.json"]
    text = run("bench", bundle.path, *words).stdout
    (line,) = [line for line in text.splitlines() if line.startswith("scorer.int8.tflite")]
    assert line.endswith("of its range; at most 0.02 is allowed")
    report = json.loads((tmp_path / "b.json").read_bytes())
    assert {t["candidate"] for t in report["timings"]} == {"litert float32"}
    assert [model["cold_bytes"] is None for model in report["models"]] == [
        model["precision"] == "int8" for model in report["models"]
    ]


def test_where_nothing_runs_the_reasons_stand_there_and_the_command_fails(bundle, golden, monkeypatch):
    bundle.keep("tflite")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)  # as where it is not installed
    result = CliRunner().invoke(main, ["bench", str(bundle.path)])
    assert result.exit_code == 1
    assert result.stdout.count("litert is not installed here") == 2
    assert result.stderr.endswith("none of its scorers runs right here; see `edgeae verify`\n")


def test_a_cold_start_that_fails_is_a_line_with_the_reason_and_the_rest_is_measured(bundle, run, monkeypatch):
    bundle.keep("tflite")
    broken = cold._COLD.replace(
        "import sys, time", "import sys, time; assert sys.argv[3] != 'int8', 'no room'"
    )
    monkeypatch.setattr(cold, "_COLD", broken)
    text = run("bench", bundle.path, "--seconds", "0.05", "--batch", "1").stdout
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("scorer.")}
    assert lines["scorer.int8.tflite"].endswith("a fresh process cannot run it (AssertionError: no room)")
    assert float(lines["scorer.float32.tflite"].split()[-1]) > 5
    assert re.search(r"^litert int8 +1 +1 ", text, re.MULTILINE)


def test_a_picture_of_an_unknown_format_is_told_before_any_work(tiny, refused):
    assert refused("bench", tiny, "--plot", "b.gif") == "b.gif: not a picture's name; use .png, .svg, .pdf"


def test_against_without_tensorflow_is_told(tiny, refused, monkeypatch):
    monkeypatch.setattr(bench, "entry_points", lambda group: ())
    assert "--against needs TensorFlow" in refused("bench", tiny, "--against", "pump.keras")
