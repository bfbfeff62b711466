"""Each example runs as a user runs it, with fewer epochs, and what it claims holds."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread
from packages import needs

import edgeae_runtime

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(p.stem for p in (ROOT / "examples").glob("*.py") if "savefig" in p.read_text())
TINY = ROOT / "tests" / "runtime" / "tiny.edgeae"

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path):
    """A function that runs an example and returns what it printed; the picture must have been drawn."""

    def run_example(name, epochs):
        command = [
            sys.executable,
            str(ROOT / "examples" / f"{name}.py"),
            "--out",
            "x.png",
            "--epochs",
            str(epochs),
        ]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
        picture = imread(tmp_path / "x.png")
        assert min(picture.shape[:2]) > 200
        assert 0.02 < np.mean(np.any(picture[..., :3] < 0.9, axis=-1)) < 0.9
        return done.stdout

    return run_example


def numbers(text, start):
    """The numbers in the line that starts with a name, behind the name."""
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return [float(number) for number in re.findall(r"[\d.]*\d", line.removeprefix(start))]


def test_on_a_plane_an_autoencoder_keeps_more_than_principal_components(run):
    text = run("dimension_reduction", 40)
    (pca_error, pca_right), (error, right) = numbers(text, "PCA"), numbers(text, "autoencoder")
    assert error < 0.9 * pca_error
    assert right > pca_right + 0.05


def test_with_few_labels_a_classifier_does_better_on_the_code(run):
    text = run("features", 40)
    code = numbers(text, "code of 16")
    assert len(code) == 5
    for other in ("64 pixels", "16 components"):
        assert code[0] > numbers(text, other)[0] + 0.02
        assert code[2] > numbers(text, other)[2]


def test_the_code_clusters_better_than_as_many_principal_components(run):
    text = run("clustering", 60)
    (code,), (pca,) = numbers(text, "code of 10"), numbers(text, "10 components")
    assert code > pca


def test_denoising_removes_noise_and_more_than_the_others(run):
    text = run("denoising", 40)
    (left,) = numbers(text, "denoising autoencoder")
    assert left < 30  # per cent of the noise's power
    for other in ("PCA, 16 components", "plain autoencoder"):
        assert left < 0.8 * numbers(text, other)[0]


def test_a_sensors_faults_are_found_that_no_limit_on_its_readings_finds(run):
    text = run("sensor", 60)
    error, limit = (float(area) for area in re.findall(r"ROC AUC ([\d.]+):", text))
    assert error > 0.9 > 0.75 > limit
    assert numbers(text, "false alarms:")[0] < 5  # per cent
    assert numbers(text, "faults found:") == [3, 3]


def test_what_has_learned_is_told_from_what_has_memorised_by_noise(run):
    text = run("has_it_learned", 40)
    good, bad, pca = (
        numbers(text, f"{name:22}") for name in ("narrow, denoising", "wide, 40 images", "PCA, 12 components")
    )
    assert good[3] < 0.8 * pca[3] and good[3] < 0.6 * bad[3]
    assert good[3] < 0.3**2 / 3  # of what a copy leaves, which is the noise's power


def test_every_example_is_tested_and_documented_with_its_picture():
    tests, page = Path(__file__).read_text(), (ROOT / "docs" / "autoencoders.md").read_text()
    assert len(EXAMPLES) == 6
    for name in EXAMPLES:
        assert f'run("{name}", ' in tests
        assert f"python examples/{name}.py --out docs/images/{name}.png" in page
        assert f"(images/{name}.png)" in page
        assert (ROOT / "docs" / "images" / f"{name}.png").stat().st_size < 80_000


# --- on a device -----------------------------------------------------------------------------------


def pump_readings(minutes, fault=0.0):
    """Lines of time and values, as the pump of tests/runtime/make_tiny_bundle.py gives them."""
    random = np.random.default_rng(11)
    load, weather = random.uniform(0, 1, 1000), random.uniform(-1, 1, 1000)
    table = np.column_stack(
        [
            60 + 15 * load + 5 * weather + fault,
            101_000 + 300 * weather - 80 * load**2,
            0.002 + 0.008 * load * (1 - 0.3 * weather),
            -100 + 0.5 * load,
            2 + 3 * load - 0.2 * weather,
            2900 - 120 * load - 10 * weather,
        ]
    )
    rows = ((minute, ",".join(map(str, table[minute].tolist()))) for minute in minutes)
    return [f"2026-01-01 {minute // 60:02}:{minute % 60:02},{values}\n" for minute, values in rows]


def test_the_iot_app_tells_alarms_and_goes_on_after_a_restart(tmp_path):
    def run_app(lines):
        command = [sys.executable, str(ROOT / "examples" / "iot_app.py"), str(TINY)]
        done = subprocess.run(
            command, cwd=tmp_path, input="".join(lines), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    hot = pump_readings(range(100, 110), fault=40)
    first = run_app(["time,a,b,c,d,e,f\n", *pump_readings(range(100)), *hot[:5]])
    assert re.fullmatch(r"2026-01-01 01:42:00 ALARM: error [\d.]+, threshold 0\.0\d+", first[0])
    assert first[1:] == ["late: 0, missing: 0, interruptions: 0"]
    second = run_app([*hot[3:], *pump_readings(range(110, 115)), ",".join(["2026-01-01 01:55"] + [""] * 6)])
    assert second == [
        "2026-01-01 01:45:00 ALARM: error " + second[0].partition("error ")[2],
        "2026-01-01 01:52:00 the alarm is over",
        "late: 2, missing: 1, interruptions: 0",
    ]


def test_the_cpp_example_builds_and_gives_the_same_errors(tmp_path):
    import ai_edge_litert

    import edgeae_runtime

    needs("g++", "nlohmann-json3-dev")
    source, library = ROOT / "examples" / "cpp" / "score.cpp", Path(ai_edge_litert.__path__[0])
    build = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", str(source), str(library / "libLiteRt.so")]
    build += [f"-Wl,-rpath,{library}", "-o", str(tmp_path / "score")]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = np.load(TINY / "golden.npz")["input"]
    text = "\n".join(" ".join(map(repr, row.astype(float).tolist())) for row in rows)
    for precision in ("float32", "int8"):
        command = [str(tmp_path / "score"), str(TINY), precision]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        found = [json.loads(line) for line in done.stdout.splitlines()]
        ae = edgeae_runtime.load(TINY, engine="litert", precision=precision)
        assert [line["error"] for line in found] == [float(ae.score(row)) for row in rows]
        assert [line["anomaly"] for line in found] == [bool(ae.detect(row).anomaly) for row in rows]
        assert {line["threshold"] for line in found} == {ae.threshold.value}


def test_the_unit_and_the_image_use_options_that_there_are():
    edgeae = Path(sys.executable).with_name("edgeae")
    known = subprocess.run([edgeae, "watch", "--help"], capture_output=True, text=True, timeout=60).stdout
    for name in ("edgeae-watch.service", "Dockerfile.arm64"):
        text = (ROOT / "examples" / name).read_text()
        command = re.search(r"watch /\S*pump\.edgeae (?:.*\\\n)*.*", text)[0]
        options = re.findall(r"--[a-z-]+", command)
        assert len(options) >= 4
        assert [option for option in options if option not in known] == []


# --- on a cluster ----------------------------------------------------------------------------------


def test_dask_scores_a_folder_of_parquet_files(tmp_path):
    """The example for Spark is the same in other words; it was run by hand, as Spark needs Java."""
    features = edgeae_runtime.Bundle(TINY).manifest.input.features
    golden = np.load(TINY / "golden.npz")["input"]
    rows = np.resize(golden, (900, len(features)))
    (tmp_path / "lake").mkdir()
    for start in range(0, 900, 300):
        part = {name: rows[start : start + 300, i] for i, name in enumerate(features)}
        keys = {"id": np.arange(start, start + 300)}
        pq.write_table(pa.table(part | keys), tmp_path / "lake" / f"{start}.parquet")
    words = [sys.executable, ROOT / "examples" / "dask_udf.py", TINY, "lake", "errors"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    table = pq.read_table(tmp_path / "errors").sort_by("id")
    assert table["id"].to_pylist() == list(range(900))
    np.testing.assert_allclose(table["error"], edgeae_runtime.load(TINY).score(rows), rtol=1e-4)
