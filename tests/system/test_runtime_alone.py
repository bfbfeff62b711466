import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FOREIGN = ["tensorflow", "keras", "onnx", "edgeae", "edgeae_export", "scipy", "sklearn", "matplotlib"]

pytestmark = pytest.mark.slow


def run(*command, cwd, **settings):
    """Run a command that knows nothing of this environment's packages; return what it printed."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == settings.get("status", 0), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bundle(fashion_mnist, tmp_path_factory):
    """A bundle of Fashion-MNIST, made with the training stack here, and what Keras says of test images."""
    from edgeae import TrainConfig, train
    from edgeae.data.dataset import Data
    from edgeae_export import export

    folder = tmp_path_factory.mktemp("made")
    trained = train(Data(fashion_mnist[0][:4000], None), TrainConfig(hidden=(128,), latent=32, epochs=4))
    trained.save(folder / "fashion.run")
    export(folder / "fashion.run", None, folder / "fashion.edgeae")
    images = fashion_mnist[1][:300]
    np.save(folder / "images.npy", images)
    offset, gain = np.float32(trained.scaler.offset), np.float32(trained.scaler.gain)
    scaled = ((images - offset) * gain).reshape(len(images), -1)
    errors = np.mean(np.square(np.float64(scaled) - np.asarray(trained.model(scaled))), axis=1)
    embedding = np.asarray(trained.model.get_layer("encoder")(scaled))
    return SimpleNamespace(
        path=folder / "fashion.edgeae", images=folder / "images.npy", embedding=embedding, errors=errors
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    run(*pip, "-w", folder, ROOT / "runtime", cwd=folder)
    (path,) = folder.glob("edgeae_runtime-*.whl")
    return path


@pytest.fixture(scope="module")
def device(wheel, tmp_path_factory):
    """A fresh environment's folder of programs, with the runtime's wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("device")
    run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
    programs = folder / "env" / "bin"
    pip = [programs / "python", "-m", "pip", "install", "--disable-pip-version-check"]
    run(*pip, "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    return programs


def python(device, script, cwd):
    return run(device / "python", "-c", script, cwd=cwd)


def test_the_wheel_is_small(wheel):
    assert wheel.stat().st_size < 250_000


def test_no_training_stack_is_installed(device, tmp_path):
    script = f"""
from importlib.metadata import distributions
from importlib.util import find_spec
assert [name for name in {FOREIGN!r} if find_spec(name)] == []
print(*sorted(d.name for d in distributions()))
"""
    assert {"edgeae-runtime", "onnxruntime", "numpy"} <= set(python(device, script, tmp_path).split())


def test_importing_it_imports_no_engine_until_one_is_needed(device, bundle, tmp_path):
    script = f"""
import sys
import edgeae_runtime
assert "onnxruntime" not in sys.modules
autoencoder = edgeae_runtime.load({str(bundle.path)!r})
autoencoder.manifest, autoencoder.threshold
assert "onnxruntime" not in sys.modules
import numpy
autoencoder.score(numpy.load({str(bundle.images)!r}))
assert "onnxruntime" in sys.modules
assert [name for name in {FOREIGN!r} if name in sys.modules] == []
"""
    python(device, script, tmp_path)


def test_it_embeds_and_scores_in_python_as_keras_does(device, bundle, tmp_path):
    script = f"""
import edgeae_runtime, numpy
images = numpy.load({str(bundle.images)!r})
for precision in ("float32", "int8"):
    autoencoder = edgeae_runtime.load({str(bundle.path)!r}, precision=precision)
    found = autoencoder.detect(images)
    numpy.savez(precision + ".npz", error=found.error, embedding=autoencoder.embed(images))
"""
    python(device, script, tmp_path)
    with np.load(tmp_path / "float32.npz") as exact, np.load(tmp_path / "int8.npz") as rounded:
        np.testing.assert_allclose(exact["error"], bundle.errors, rtol=1e-5)
        np.testing.assert_allclose(exact["embedding"], bundle.embedding, rtol=1e-4, atol=1e-5)
        assert np.median(np.abs(rounded["error"] - bundle.errors) / bundle.errors) <= 0.01


def test_its_command_embeds_scores_and_verifies(device, bundle, tmp_path):
    command, exact = device / "edgeae", ["--precision", "float32"]
    run(command, "embed", bundle.path, bundle.images, "-o", "codes.npy", *exact, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "codes.npy"), bundle.embedding, rtol=1e-4, atol=1e-5)
    run(command, "score", bundle.path, bundle.images, "-o", "errors.csv", *exact, cwd=tmp_path)
    with (tmp_path / "errors.csv").open(newline="") as file:
        errors = [float(row["error"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(errors, bundle.errors, rtol=1e-5)
    checks = json.loads(run(command, "verify", bundle.path, "--json", cwd=tmp_path))
    found = {check["artifact"]: check["status"] for check in checks}
    for name, status in found.items():  # LiteRT is an extra, which nobody asked for here
        assert status == ("ok" if name.endswith(".onnx") else "skipped")
    assert list(found.values()).count("ok") == 6


def test_its_help_shows_the_commands_of_a_device_alone(device, tmp_path):
    text = run(device / "edgeae", "--help", cwd=tmp_path)
    groups = text[text.index("Options:") :].split("\n\n")[1:]
    assert [group.splitlines()[0] for group in groups] == ["Anywhere:"]
    commands = {line.split()[0] for line in groups[0].splitlines()[1:] if line.startswith("  ")}
    assert {"embed", "score", "info", "verify"} <= commands
    assert not commands & {"train", "export", "demo"}
