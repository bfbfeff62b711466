import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

ARTIFACTS = [
    f"{role}.{precision}.{kind}"
    for role in ("encoder", "decoder", "scorer")
    for precision in ("float32", "int8")
    for kind in ("onnx", "tflite")
]
PEERS = ["Keras model.predict", "TensorFlow tf.function"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder that the demo wrote and the text that it printed."""
    folder = tmp_path_factory.mktemp("demo")
    command = [Path(sys.executable).parent / "edgeae", "demo", "--out", "results"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return folder / "results", done.stdout


def cells(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return line.removeprefix(name).split()


@pytest.mark.slow
def test_the_table_has_a_line_for_each_artifact_with_its_size_fidelity_and_latency(demo):
    folder, text = demo
    for name in ARTIFACTS:
        size, ratio, moves, rank, p50, p99 = cells(text, name)
        assert int(size.replace(",", "")) == (folder / "digits.edgeae" / name).stat().st_size
        twin = folder / "digits.edgeae" / name.replace("int8", "float32")
        assert float(ratio) == pytest.approx(int(size.replace(",", "")) / twin.stat().st_size, abs=1e-3)
        assert float(moves.rstrip("%")) <= (1 if "int8" in name else 0.001)
        assert float(rank) >= 0.999
        assert 0 < float(p50.replace(",", "")) <= float(p99.replace(",", ""))


@pytest.mark.slow
def test_tensorflows_own_two_ways_stand_beside_it_and_are_slower(demo):
    _, text = demo
    scorer = float(cells(text, "scorer.int8.onnx")[-2].replace(",", ""))
    for name in PEERS:
        p50, p99 = (float(cell.replace(",", "")) for cell in cells(text, name))
        assert scorer < p50 <= p99


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loss.png", "reconstructions.png", "latent.png"])
def test_three_pictures_are_drawn(demo, name):
    picture = imread(demo[0] / name)
    assert picture.shape[0] > 300 and picture.shape[1] > 600
    assert 0.005 < np.mean(np.any(picture[..., :3] < 0.9, axis=-1)) < 0.9


@pytest.mark.slow
def test_nothing_else_is_left(demo):
    folder, text = demo
    assert [path.name for path in folder.parent.iterdir()] == ["results"]
    names = {"digits.run", "digits.edgeae", "loss.png", "reconstructions.png", "latent.png"}
    assert {path.name for path in folder.iterdir()} == names
    for name in names:
        assert name in text.splitlines()[-1]
