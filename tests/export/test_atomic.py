"""The same model gives the same bytes, and a process that is killed leaves a whole bundle, old or new."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import edgeae_export

pytestmark = pytest.mark.slow

EDGEAE = Path(sys.executable).with_name("edgeae")


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- the same bytes --------------------------------------------------------------------------------


def convolutional():
    parts = [layers.Reshape((8, 8, 1)), layers.Conv2D(6, 3, strides=2, padding="same")]
    parts += [layers.BatchNormalization(), layers.ReLU(), layers.Flatten(), layers.Dense(8)]
    back = [layers.Dense(96, "relu"), layers.Reshape((4, 4, 6))]
    last = [layers.Conv2DTranspose(1, 3, strides=2, padding="same"), layers.Flatten()]
    return keras.Sequential([keras.Input((64,)), *parts, *back, *last])


def recurrent():
    parts = [layers.Reshape((4, 16)), layers.LSTM(12), layers.Dense(8), layers.RepeatVector(4)]
    back = [
        layers.LSTM(12, return_sequences=True),
        layers.TimeDistributed(layers.Dense(16)),
        layers.Flatten(),
    ]
    return keras.Sequential([keras.Input((64,)), *parts, *back])


@pytest.mark.parametrize(("make", "formats"), [(convolutional, "onnx,tflite,c"), (recurrent, "onnx")])
def test_the_same_model_gives_the_same_bytes_from_any_process_and_folder(make, formats, tmp_path):
    from sklearn.datasets import load_digits

    rows = np.float32(load_digits().data / 16)
    keras.utils.set_random_seed(0)
    model = make()
    model.compile(keras.optimizers.Adam(5e-3), "mse")
    model.fit(rows[:-200], rows[:-200], epochs=8, verbose=0)
    model.save(tmp_path / "ae.keras")
    np.save(tmp_path / "rows.npy", rows[-200:])
    what = ["ae.keras", "--data", "rows.npy", "--formats", formats, "--precisions", "float16,int8"]
    what += ["--max-error-change", "0.5", "--min-rank-correlation", "0.5"]
    what += ["--recipe", "compensated", "--keep-passing"]
    other = tmp_path / "other"
    other.mkdir()
    for name in ("ae.keras", "rows.npy"):
        (other / name).write_bytes((tmp_path / name).read_bytes())
    runs = [
        subprocess.Popen(
            [EDGEAE, "export", *what, "--out", out, *more],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for folder, out, seed, more in [
            (tmp_path, "one.edgeae", "1", []),
            (other, "../two.edgeae", "2", ["--zip"]),
        ]
    ]
    assert [run.wait() for run in runs] == [0, 0]
    first = files(tmp_path / "one.edgeae")
    # precisions and roles; the micro one with its C and header; manifest and golden rows
    assert len(first) == {"onnx": 2 * 3, "onnx,tflite,c": 2 * 2 * 3 + 3}[formats] + 3
    with zipfile.ZipFile(tmp_path / "two.edgeae") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == first
    for content in first.values():
        assert str(tmp_path).encode() not in content

    # and in a process that has made other models and files before
    loose = edgeae_export.Limits(0.5, 0.5, 0.999)
    edgeae_export.export(
        tmp_path / "ae.keras",
        tmp_path / "rows.npy",
        tmp_path / "three.edgeae",
        formats=formats.split(","),
        precisions=("float16", "int8"),
        recipe="compensated",
        limits={"float16": loose, "int8": loose},
        keep_passing=True,
    )
    assert files(tmp_path / "three.edgeae") == first


# --- killed ----------------------------------------------------------------------------------------

KILLS = 25  # of a folder, and as many of a zip file

KILLER = """
import gc, json, os, random, shutil, signal, sys, time, warnings
from pathlib import Path

import keras, tensorflow, tf2onnx  # before the forks; nothing is computed in this process
from edgeae_export import builder, pipeline
from edgeae_export.model import halves
from edgeae_runtime import Bundle, files as edgeae_runtime_files
from edgeae_runtime.cli.main import main

folder = Path(sys.argv[1])
recovered = 0
target, old, new = (folder / f"{name}.edgeae" for name in ("pump", "old", "new"))
known = {name: Bundle(path).manifest for name, path in (("old", old), ("new", new))}


def put(bundle):
    shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    (shutil.copytree if bundle.is_dir() else shutil.copyfile)(bundle, target)


def state():
    '''Whether the old bundle or the new one is there for who loads it; anything else is an error.'''
    global recovered
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        bundle = Bundle(target)
    recovered += len(told)
    assert all("was killed half-way; the old one is back" in str(w.message) for w in told)
    for artifact in bundle.manifest.artifacts:
        bundle.read_artifact(artifact)
    for name in bundle.manifest.files:
        bundle.read_file(name)
    return next(name for name, manifest in known.items() if manifest == bundle.manifest)


def fork(work):
    pid = os.fork()
    if pid:
        return pid
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1), os.dup2(quiet, 2)
        work()
        os._exit(0)
    except BaseException:
        os._exit(1)


def at_random():
    '''Kill an export, started as the command is, after a random time.'''
    options = ["--formats", "onnx", "--precisions", "float32", "--force"] + ["--zip"] * old.is_file()
    command = ["export", str(folder / "pump.run"), "--out", str(target), *options]
    work = lambda: main(command, standalone_mode=False)
    put(old)
    started = time.monotonic()
    assert os.waitpid(fork(work), 0)[1] == 0
    assert state() == "new"
    whole = time.monotonic() - started
    found = []
    for _ in range(int(sys.argv[2])):
        put(old)
        pid = fork(work)
        time.sleep(random.uniform(0, 1.1 * whole))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found.append(state())
    return found


def at_every_step():
    '''Kill the writing before each thing that it does to the disk.'''
    found, ended = [], False
    while not ended:
        put(old)

        def work(left=len(found)):
            def hook(event, arguments):
                nonlocal left
                if event.partition(".")[0] in ("open", "os", "shutil", "tempfile", "fcntl", "ctypes"):
                    left -= 1
                    if left < 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            pipeline._write(files, target, as_zip=old.is_file(), force=True)

        ended = os.waitpid(fork(work), 0)[1] == 0
        found.append(state())
    return found


def hidden():
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def at_every_step_of_two():
    '''The same as on a system that cannot swap names.'''
    edgeae_runtime_files._exchange = lambda one, other: False
    return at_every_step()


gc.freeze()  # or each child would copy all of it as soon as it collects
files = {path.name: path.read_bytes() for path in sorted((folder / "files").iterdir())}
random.seed(int(sys.argv[3]))
results = {}
for kind in (at_random, at_every_step, at_every_step_of_two):
    recovered = 0
    found, left = kind(), hidden()
    pipeline._write(files, target, as_zip=old.is_file(), force=True)
    results[kind.__name__] = {"found": found, "recovered": recovered, "left": left, "cleaned": hidden()}
print(json.dumps(results))
"""


@pytest.fixture(scope="module", params=["folder", "zip"])
def stage(request, pump, tmp_path_factory):
    """A folder with a run, an old and a new bundle of it that differ, and the files of the new one."""
    folder = tmp_path_factory.mktemp("stage")
    pump.trained.save(folder / "pump.run")
    settings = {"formats": ("onnx",), "precisions": ("float32",)}
    for name, more in {
        "new.edgeae": {"as_zip": request.param == "zip"},
        "old.edgeae": {"as_zip": request.param == "zip", "threshold": "sigma:3"},
        "files": {},
    }.items():
        edgeae_export.export(folder / "pump.run", None, folder / name, **settings, **more)
    return folder


@pytest.fixture(scope="module")
def killed(stage):
    """What became of the bundle, by the way of killing; all in one process, as its start takes longest."""
    seed = int.from_bytes(os.urandom(2), "big")
    print(f"seed {seed}")
    arguments = [sys.executable, "-c", KILLER, stage, str(KILLS), str(seed)]
    run = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def check_what_is_left(stage, result):
    """Only hidden names beside the target, which the next export removes."""
    for name in result["left"]:
        assert name.startswith(".pump.edgeae.")
    assert result["cleaned"] == []
    assert {p.name for p in stage.iterdir()} <= {
        *("pump.run", "pump.edgeae", "old.edgeae", "new.edgeae", "files")
    }


def test_fifty_kills_at_random_moments_leave_the_old_bundle(stage, killed):
    result = killed["at_random"]
    assert len(result["found"]) == KILLS
    assert set(result["found"]) <= {"old", "new"}
    assert result["found"].count("old") >= 5
    assert result["recovered"] == 0
    check_what_is_left(stage, result)


@pytest.mark.parametrize("steps", ["one", "two"])
def test_a_kill_before_any_step_of_the_writing_leaves_the_old_bundle_or_the_new_one(stage, killed, steps):
    result = killed["at_every_step" if steps == "one" else "at_every_step_of_two"]
    found = result["found"]
    assert len(found) >= 6
    assert found[0] == "old"
    assert found[-1] == "new"
    assert found == sorted(found, key=["old", "new"].index)
    # where the system cannot swap, there is one moment at which neither is there, until the next one loads it
    assert result["recovered"] == (1 if steps == "two" and (stage / "old.edgeae").is_dir() else 0)
    check_what_is_left(stage, result)
