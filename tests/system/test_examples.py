"""Each example runs as a user runs it, with fewer epochs, and what it claims holds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))

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
