"""A training that is interrupted and resumed ends with the weights of one that was not, to the bit."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import keras
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_digits

import edgeae.training.train
from edgeae import TrainConfig, train
from edgeae.cli.train import train as command
from edgeae.data.dataset import Data
from edgeae.training.checkpoint import Checkpoint, identify
from edgeae.training.partial import ResumeError, check_checkpoint, checkpoint_path, discard

RESTLESS = TrainConfig(
    hidden=(16,), latent=4, epochs=60, patience=2, batch_size=64, learning_rate=0.1, seed=11
)
"""Its step size is halved several times and it stops early, so all of that must be resumed."""


class Killed(Exception):
    """In place of a kill, where a process of its own would take too long."""


@pytest.fixture(scope="module")
def few():
    return Data(np.float32(load_digits().images[:500]), None)


def killer(last_epoch):
    def progress(epoch, logs):
        if epoch == last_epoch:
            raise Killed

    return progress


def everything(trained):
    models = [trained.model, *([trained.posterior] if trained.posterior else [])]
    return [weight for model in models for weight in model.get_weights()]


def assert_same(one, other):
    assert one.history == other.history
    for a, b in zip(everything(one), everything(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"objective": "denoising", "noise_kind": "salt-and-pepper"},
        pytest.param({"objective": "variational", "laplacian": 0.1}, marks=pytest.mark.slow),
        pytest.param({"objective": "contractive", "tied": True, "max_norm": 2.0}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_training_interrupted_twice_ends_like_one_that_was_not(few, tmp_path, changes):
    config = msgspec.structs.replace(RESTLESS, **changes)
    whole = train(few, config)
    rates = whole.history["learning_rate"]
    assert len(rates) < config.epochs and rates[-1] < rates[0]

    path = tmp_path / "x.run.partial"
    first, second = 2, len(rates) - 2
    for last_epoch in (first, second):
        with pytest.raises(Killed):
            train(few, config, checkpoint=path, resume=True, progress=killer(last_epoch))
    told = []
    resumed = train(
        few, config, checkpoint=path, resume=True, progress=lambda epoch, logs: told.append(epoch)
    )
    assert told == [second + 1, second + 2]
    assert_same(whole, resumed)


@pytest.mark.slow
def test_a_training_that_was_done_but_not_saved_is_not_trained_further(few, tmp_path):
    path = tmp_path / "x.run.partial"
    told = []
    for config in (RESTLESS, msgspec.structs.replace(RESTLESS, epochs=2)):  # stopped early, and at the end
        discard(path)
        whole = train(few, config, checkpoint=path)
        again = train(few, config, checkpoint=path, resume=True, progress=lambda *args: told.append(args))
        assert_same(whole, again)
    assert told == []


CHILD = """
import gc, sys, pathlib, numpy as np
from sklearn.datasets import load_digits
from edgeae_export.quiet import import_tensorflow
import_tensorflow(command=True)
assert gc.isenabled() and gc.get_freeze_count() > 100_000
from edgeae import TrainConfig, train
from edgeae.data.dataset import Data
import msgspec
config = msgspec.json.decode(sys.argv[1], type=TrainConfig)
run = train(Data(np.float32(load_digits().images), None), config, checkpoint=pathlib.Path("x.run.partial"),
            resume=True, progress=lambda epoch, logs: print(epoch, flush=True))
np.savez("done.npz", *run.model.get_weights())
"""


def child(folder, config, kill_after=None):
    """Train in a process of its own; kill it in the middle of the epoch after ``kill_after``."""
    folder.mkdir(exist_ok=True)
    arguments = [sys.executable, "-c", CHILD, msgspec.json.encode(config).decode()]
    with (
        (folder / "stderr.txt").open("w") as errors,
        subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        for line in process.stdout:
            if kill_after is not None and int(line) == kill_after:
                process.kill()
    wanted = 0 if kill_after is None else -signal.SIGKILL
    assert process.returncode == wanted, (folder / "stderr.txt").read_text()
    return None if kill_after is not None else dict(np.load(folder / "done.npz"))


@pytest.mark.slow
def test_a_process_killed_at_a_random_epoch_and_resumed_gives_the_weights_of_two_others(tmp_path):
    config = TrainConfig(objective="denoising", hidden=(16,), latent=4, epochs=12, learning_rate=0.01, seed=5)
    rng = np.random.default_rng()  # unseeded: any epoch must do, and the message names the one that did not
    digits = Data(np.float32(load_digits().images), None)
    once, again = train(digits, config).model.get_weights(), child(tmp_path / "again", config)
    first = int(rng.integers(1, 6))
    for epoch in (first, int(rng.integers(first + 1, 11))):
        child(tmp_path / "killed", config, kill_after=epoch)
    resumed = child(tmp_path / "killed", config)
    assert len(once) == len(again) == 8
    for i, weight in enumerate(once):
        np.testing.assert_array_equal(again[f"arr_{i}"], weight)
        np.testing.assert_array_equal(resumed[f"arr_{i}"], weight, err_msg=f"killed after epoch {epoch}")


# --- what cannot be resumed ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def interrupted(few, tmp_path_factory):
    path = tmp_path_factory.mktemp("interrupted") / "x.run.partial"
    with pytest.raises(Killed):
        train(few, RESTLESS, checkpoint=path, progress=killer(1))
    return path


def test_other_settings_are_refused_with_both_values(few, interrupted):
    other = msgspec.structs.replace(RESTLESS, hidden=(8, 4), learning_rate=0.05)
    with pytest.raises(ResumeError) as caught:
        train(few, other, checkpoint=interrupted, resume=True)
    assert str(caught.value) == (
        f"{interrupted}: was made with hidden 16, not 8,4; learning_rate 0.1, not 0.05; resume with the "
        "same, or delete it to start again"
    )


def test_other_data_are_refused(few, interrupted):
    values = few.values.copy()
    values[-1, -1, -1] += 1
    with pytest.raises(ResumeError, match=r"was made with other data; resume with the same"):
        train(Data(values, None), RESTLESS, checkpoint=interrupted, resume=True)


def test_another_version_of_keras_is_refused(few, interrupted, monkeypatch):
    monkeypatch.setattr(keras, "version", lambda: "99.0")
    with pytest.raises(ResumeError, match=r"was made with keras 3\.\d+\.\d+, not 99\.0; resume"):
        train(few, RESTLESS, checkpoint=interrupted, resume=True)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nonsense", "half"])
def test_a_damaged_checkpoint_is_refused_in_one_line(few, interrupted, tmp_path, content):
    path = tmp_path / "x.run.partial"
    whole = interrupted.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(ResumeError, match=r"run\.partial: cannot be read \(.*\); delete it to start again"):
        train(few, RESTLESS, checkpoint=path, resume=True)


def test_a_loss_that_is_no_number_is_not_stored(few, tmp_path):
    path = tmp_path / "x.run.partial"
    config = msgspec.structs.replace(RESTLESS, learning_rate=1e30)
    with pytest.raises(edgeae.training.train.TrainingError):
        train(few, config, checkpoint=path)
    assert not path.exists()


def test_the_checkpoint_says_what_it_is_of(few, interrupted):
    early, plateau = keras.callbacks.EarlyStopping(), keras.callbacks.ReduceLROnPlateau()
    identity = identify(edgeae.training.train.complete(RESTLESS, few.values), few)
    assert Checkpoint(interrupted, identity, early, plateau).read() == 1
    with np.load(interrupted) as file:
        state = json.loads(bytes(file["state"]))
    assert state["identity"]["settings"]["seed"] == 11 and len(state["history"]["val_loss"]) == 1


# --- the command ---------------------------------------------------------------------------------


def test_a_checkpoint_in_the_way_is_neither_lost_nor_continued_without_being_asked(tmp_path):
    path = checkpoint_path(tmp_path / "x.run")
    check_checkpoint(path, resume=False, force=False)
    path.write_bytes(b"precious")
    stray = tmp_path / ".x.run.partial.abc.partial"
    stray.write_bytes(b"half written")
    with pytest.raises(ResumeError, match=r"x\.run\.partial: holds an unfinished training; continue it with"):
        check_checkpoint(path, resume=False, force=False)
    check_checkpoint(path, resume=True, force=True)
    assert path.read_bytes() == b"precious"
    check_checkpoint(path, resume=False, force=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, None])
def test_the_command_keeps_the_checkpoint_when_interrupted_and_deletes_it_when_done(
    tmp_path, monkeypatch, interruption
):
    def interrupt(epoch, logs):
        if epoch == 2 and interruption:
            raise interruption

    real = edgeae.training.train.train
    monkeypatch.setattr(
        edgeae.training.train, "train", lambda *a, **k: real(*a, **{**k, "progress": interrupt})
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["digits", "--out", "x.run", "--epochs", "3", "--hidden", "8"]
    done = CliRunner().invoke(command, arguments)
    if interruption is None:
        assert done.exit_code == 0, done.output
        assert [path.name for path in Path().iterdir()] == ["x.run"]
        return
    assert done.exit_code == 1
    assert "x.run.partial: kept; continue with the same command and --resume" in done.output
    assert [path.name for path in Path().iterdir()] == ["x.run.partial"]
    monkeypatch.setattr(edgeae.training.train, "train", real)
    assert "holds an unfinished training" in str(CliRunner().invoke(command, arguments).exception)
    done = CliRunner().invoke(command, [*arguments, "--resume"])
    assert done.exit_code == 0, done.output
    assert [path.name for path in Path().iterdir()] == ["x.run"]
    whole = CliRunner().invoke(command, [*arguments[:2], "y.run", *arguments[3:]])
    assert whole.exit_code == 0
    assert Path("x.run/history.csv").read_text() == Path("y.run/history.csv").read_text()
