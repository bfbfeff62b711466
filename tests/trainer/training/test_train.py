import csv
import json
import shutil
import warnings
from typing import get_args

import click
import keras
import msgspec
import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler

import edgeae.training.run
import edgeae.training.train
from edgeae import TrainConfig, train
from edgeae.cli.train import train as command
from edgeae.config import Loss, NoiseKind, Objective, ScalerKind, Sparsity, complete
from edgeae.data.dataset import Data
from edgeae.data.split import hold_out
from edgeae.models.architectures import Arch
from edgeae.training.batches import VALIDATION_EPOCH, Batches
from edgeae.training.train import TrainingError
from edgeae_export.model.load import load_run
from edgeae_runtime import DataError, OutputError, Scaler
from edgeae_runtime.errors import EdgeaeWarning
from edgeae_runtime.settings import SettingsError

PNG = b"\x89PNG\r\n\x1a\n"


def scaled_by_hand(trained, rows):
    """Raw rows as the network wants them: flat, in scaled units."""
    offset, gain = np.array(trained.scaler.offset), np.array(trained.scaler.gain)
    return np.float32((rows.astype(np.float64) - offset) * gain).reshape(len(rows), -1)


def losses_by_hand(trained, rows):
    """Mean squared error and binary cross-entropy of the model on raw rows."""
    wanted = scaled_by_hand(trained, rows).astype(np.float64)
    found = np.asarray(trained.model(np.float32(wanted)), np.float64)
    sure = np.clip(found, 1e-7, 1 - 1e-7)
    return {
        "mse": np.mean(np.square(wanted - found)),
        "bce": -np.mean(wanted * np.log(sure) + (1 - wanted) * np.log(1 - sure)),
    }


def random_rows(count, size=6):
    return Data(np.float32(np.random.default_rng(0).normal(size=(count, size))), None)


# --- what is learned -----------------------------------------------------------------------------


def test_images_are_reconstructed_far_better_than_by_their_mean(trained):
    held_out = scaled_by_hand(trained, trained.held_out)
    assert losses_by_hand(trained, trained.held_out)["mse"] < 0.5 * np.mean(np.var(held_out, axis=0))


def test_a_table_of_many_units_is_reconstructed_far_better_than_by_its_mean(cells):
    config = TrainConfig(hidden=(24,), latent=8, epochs=12, batch_size=32, scaler="standard")
    trained = train(cells, config)
    assert losses_by_hand(trained, trained.held_out)["mse"] < 0.4  # of a variance of one


def plain_keras(rows, held_out, hidden, latent, epochs, batch_size, seed):
    """The same autoencoder without this project: its weights, and its MSE on the held-out rows."""
    low, high = np.float32(rows.min()), np.float32(rows.max())
    x, v = (((part - low) / (high - low)).reshape(len(part), -1) for part in (rows, held_out))
    keras.utils.set_random_seed(seed)
    layers = [(hidden, "relu"), (latent, None), (hidden, "relu"), (x.shape[1], None)]
    model = keras.Sequential([keras.Input((x.shape[1],)), *(keras.layers.Dense(*layer) for layer in layers)])
    model.compile("adam", "mse", jit_compile=False)
    for epoch in range(epochs):
        mixed = x[np.random.default_rng((seed, epoch)).permutation(len(x))]
        model.fit(mixed, mixed, batch_size=batch_size, shuffle=False, verbose=0)
    return model.get_weights(), model.evaluate(v, v, verbose=0)


def test_it_is_the_same_model_as_ten_lines_of_plain_keras(digits):
    trained = train(digits, TrainConfig(hidden=(32,), latent=8, epochs=5, batch_size=32, seed=5))
    rows, held_out = hold_out(digits.values, 0.1, 5)
    np.testing.assert_array_equal(held_out, trained.held_out)
    weights, plain = plain_keras(rows, held_out, 32, 8, epochs=5, batch_size=32, seed=5)
    assert plain < 0.7 * np.mean(np.var(scaled_by_hand(trained, held_out), axis=0))  # it has learned too
    assert losses_by_hand(trained, held_out)["mse"] == pytest.approx(plain, rel=1e-3)
    for found, wanted in zip(trained.model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.slow
def test_fashion_mnist_is_learned_as_by_plain_keras(fashion_mnist):
    images = fashion_mnist[0][:12_000]
    trained = train(Data(images, None), TrainConfig(hidden=(128,), latent=32, epochs=10))
    held_out = trained.held_out
    rows, _ = hold_out(images, 0.1, 0)
    _, plain = plain_keras(np.float32(rows), np.float32(held_out), 128, 32, epochs=10, batch_size=128, seed=0)
    assert losses_by_hand(trained, held_out)["mse"] == pytest.approx(plain, rel=0.005)
    assert plain < 0.02  # it has learned too


def test_each_epoch_has_all_rows_in_an_order_of_its_own_that_the_seed_decides():
    rows = np.float32(np.arange(10))[:, None]
    unscaled = Scaler(kind="none", offset=(0.0,), gain=(1.0,))

    def orders(seed, first_epoch=0):
        batches = Batches(rows, unscaled, (1,), TrainConfig(batch_size=4, epochs=3, seed=seed))
        assert batches.steps == 3
        parts = [x.ravel() for x, _ in batches.training(first_epoch).as_numpy_iterator()]
        assert [len(x) for x in parts] == [4, 4, 2] * (3 - first_epoch)
        return np.concatenate(parts).reshape(-1, 10)

    found = orders(seed=1)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(rows.T, (3, 1)))
    assert len({tuple(order) for order in found} | {tuple(orders(seed=2)[0])}) == 4
    np.testing.assert_array_equal(orders(seed=1, first_epoch=1), found[1:])


def test_noise_is_put_on_what_is_read_and_not_on_what_is_wanted():
    rows = np.float32(np.random.default_rng(0).uniform(size=(1000, 40)))
    unscaled = Scaler(kind="none", offset=(0.0,), gain=(1.0,))

    def noisy(kind, epoch=0):
        config = TrainConfig(objective="denoising", noise=0.2, noise_kind=kind, batch_size=1000)
        given, wanted = Batches(rows, unscaled, (40,), config).batch(epoch, 0)
        assert {row.tobytes() for row in wanted} == {row.tobytes() for row in rows}
        return given, wanted

    given, wanted = noisy("gaussian")
    assert np.std(given - wanted) == pytest.approx(0.2, rel=0.02)
    given, wanted = noisy("masking")
    assert np.mean(given == 0) == pytest.approx(0.2, rel=0.05)
    given, wanted = noisy("salt-and-pepper")
    hit = given != wanted
    assert hit.mean() == pytest.approx(0.2, rel=0.05)
    assert set(np.unique(given[hit])) == {rows.min(), rows.max()}
    for epoch, same in ((0, True), (1, False)):
        assert np.array_equal(noisy("masking", epoch)[0], noisy("masking")[0]) == same
    np.testing.assert_array_equal(noisy("masking", VALIDATION_EPOCH)[1], rows)


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(digits):
    once, again, other = (
        train(digits, TrainConfig(hidden=(16,), latent=4, epochs=1, seed=seed)).model.get_weights()
        for seed in (1, 1, 2)
    )
    for a, b, c in zip(once, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_binary_cross_entropy_is_minimised_and_gives_values_between_0_and_1(digits):
    config = TrainConfig(hidden=(32,), latent=8, loss="bce", epochs=3, batch_size=32)
    trained = train(digits, config)
    outputs = np.asarray(trained.model(scaled_by_hand(trained, digits.values)))
    assert outputs.min() >= 0 and outputs.max() <= 1
    assert losses_by_hand(trained, trained.held_out)["bce"] == pytest.approx(
        min(trained.history["val_loss"]), rel=1e-4
    )
    assert trained.history["loss"][-1] < 0.75 * trained.history["loss"][0]


# --- which rows ----------------------------------------------------------------------------------


def test_the_scaler_is_fitted_to_all_rows_but_the_held_out_ones(cells):
    trained = train(cells, TrainConfig(hidden=(4,), epochs=1, validation_split=0.2))
    held_out = {row.tobytes() for row in trained.held_out}
    rest = np.array([row for row in cells.values if row.tobytes() not in held_out])
    assert len(trained.held_out) == round(0.2 * 569) and len(rest) == 569 - len(trained.held_out)
    peer = MinMaxScaler().fit(np.float64(rest))
    assert np.any(peer.data_max_ != cells.values.max(axis=0))  # the held-out rows have extremes
    np.testing.assert_array_equal(np.float32(peer.data_min_), np.float32(trained.scaler.offset))
    np.testing.assert_allclose(peer.scale_, trained.scaler.gain, rtol=1e-6)


def test_whatever_the_held_out_rows_hold_the_weights_are_the_same(cells):
    config = TrainConfig(hidden=(4,), epochs=1)
    before = train(cells, config)
    held_out = {row.tobytes() for row in before.held_out}
    out = np.array([row.tobytes() in held_out for row in cells.values])
    values = cells.values.copy()
    values[out] = 3 * values[out] + 7
    after = train(Data(values, cells.features), config)
    np.testing.assert_array_equal(after.held_out, np.float32(3 * before.held_out + 7))
    assert after.scaler == before.scaler
    assert after.history["loss"] == before.history["loss"]
    assert after.history["val_loss"] != before.history["val_loss"]
    for a, b in zip(before.model.get_weights(), after.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- early stopping ------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_the_weights_are_those_of_the_best_epoch_whether_stopped_early_or_not(digits, loss):
    few = Data(digits.values[:300], None)

    def attempt(epochs, patience):
        config = TrainConfig(
            hidden=(16,),
            latent=8,
            loss=loss,
            epochs=epochs,
            patience=patience,
            batch_size=32,
            learning_rate=0.1,
        )
        trained = train(few, config)
        return trained.history["val_loss"], losses_by_hand(trained, trained.held_out)[loss]

    losses, loss_now = attempt(epochs=80, patience=1)
    best = int(np.argmin(losses))
    assert len(losses) == best + 2 < 80
    assert loss_now == pytest.approx(losses[best], rel=1e-4)
    assert loss_now != pytest.approx(losses[-1], rel=1e-4)

    losses, loss_now = attempt(epochs=best + 2, patience=100)
    assert len(losses) == best + 2
    assert loss_now == pytest.approx(losses[best], rel=1e-4)
    assert loss_now != pytest.approx(losses[-1], rel=1e-4)


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "latent"), [(4, 1), (127, 31), (200, 32)])
def test_the_latent_size_is_32_or_a_quarter_of_the_input(size, latent):
    trained = train(random_rows(40, size), TrainConfig(hidden=(4,), epochs=1, batch_size=32))
    assert trained.config.latent == latent
    assert trained.model.get_layer("encoder").output_shape == (None, latent)


@pytest.mark.parametrize(("size", "latent"), [(6, 6), (6, 9), (1, None)])
def test_a_code_that_can_hold_its_input_is_warned_of_with_the_reason(size, latent):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained = train(random_rows(150, size), TrainConfig(hidden=(4,), latent=latent, epochs=1))
    (told,) = [str(one.message) for one in caught if one.category is EdgeaeWarning]
    assert trained.config.latent == (latent or 1)
    assert told.startswith(
        f"a code of {latent or 1} values is not smaller than the input of {size}: the network can copy its "
        "input instead of learning its structure"
    )


def test_progress_is_told_after_each_epoch(trained, told):
    assert [epoch for epoch, _ in told] == list(range(1, 11))
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose([logs[name] for _, logs in told], trained.history[name], rtol=1e-6)


@pytest.mark.parametrize(
    ("arch", "shape", "hidden"),
    [
        ("dense", (784,), (128,)),
        ("dense", (28, 28), (128,)),
        ("dense", (30,), (30,)),
        ("dense", (3,), (8,)),
        ("conv1d", (60, 3), (16, 32)),
        ("conv1d", (3, 9), (16,)),
        ("conv2d", (8, 8), (16, 32)),
        ("conv2d", (3, 40, 1), (16,)),
        ("lstm", (60, 3), (64,)),
        ("gru", (60, 3), (64,)),
        ("linear", (60, 3), ()),
    ],
)
def test_the_hidden_sizes_follow_the_input(arch, shape, hidden):
    values = np.random.default_rng(0).normal(size=(20, *shape))
    assert complete(TrainConfig(arch=arch, latent=2), values).hidden == hidden


def test_the_loss_follows_the_values():
    rng = np.random.default_rng(0)
    flags, grey = rng.integers(0, 2, (50, 9)), rng.integers(0, 256, (50, 9))
    late = np.vstack([np.tile(flags, (250, 1)), grey])  # what its first rows do not show
    for values, config, loss in (
        (flags, TrainConfig(), "bce"),
        (255 * flags, TrainConfig(), "bce"),
        (flags, TrainConfig(scaler="standard"), "mse"),
        (flags, TrainConfig(loss="mae"), "mae"),
        (flags, TrainConfig(arch="linear"), "mse"),
        (grey, TrainConfig(), "mse"),
        (late, TrainConfig(), "mse"),
    ):
        assert complete(config, values).loss == loss


# --- what is refused -----------------------------------------------------------------------------


def test_binary_cross_entropy_with_a_standard_scaler_is_refused():
    with pytest.raises(
        SettingsError, match=r"wants values in \[0, 1\]; use scaler='minmax' with loss='bce'$"
    ):
        train(random_rows(40), TrainConfig(loss="bce", scaler="standard", batch_size=8))


@pytest.mark.parametrize(
    ("settings", "shape", "told"),
    [
        ({"arch": "conv2d"}, (6,), r"conv2d wants samples of 2 or 3 axes.*shape \(6,\); .*arch='dense'$"),
        (
            {"arch": "conv1d"},
            (6,),
            r"conv1d wants samples of 2 axes, \(steps, channels\).*with window, or",
        ),
        ({"arch": "lstm"}, (8, 8, 3), r"lstm wants samples of 2 axes.*; use arch='conv2d'$"),
        ({"arch": "conv1d", "tied": True}, (8, 2), "^tied weights are for dense and linear networks; use ar"),
        ({"arch": "conv2d", "hidden": ()}, (8, 8), "^hidden: conv2d wants at least one layer, found none$"),
        ({"hidden": (8, 0)}, (6,), r"^hidden: expected 1 or more in each layer, found \(8, 0\)$"),
        ({"max_norm": 0.0}, (6,), "^max_norm: expected more than 0, found 0.0$"),
        ({"latent": 0}, (6,), "^latent: expected more than 0, found 0$"),
        ({"l2": -1.0}, (6,), "^l2: expected 0 or more, found -1.0$"),
        ({"laplacian": float("nan")}, (6,), "^laplacian: expected 0 or more, found nan$"),
        ({"arch": "gru"}, (6,), r"^gru wants samples of 2 axes.*windows with window, or use arch='dense'$"),
        ({"arch": "gru", "hidden": []}, (8, 2), "^hidden: gru wants at least one layer, found none$"),
        (
            {"arch": "linear", "hidden": (8,)},
            (6,),
            "^hidden: linear has no hidden layer, found 1; leave out hidden, or use arch='dense'$",
        ),
        (
            {"arch": "linear", "objective": "sparse"},
            (6,),
            "^objective: sparse needs an activation, and linear has none; choose another objective, or use",
        ),
        ({"arch": "linear", "loss": "bce"}, (6,), "^loss: bce needs an activation.*or use arch='dense'$"),
        ({"arch": "transformer"}, (6,), f"^arch: expected one of {', '.join(get_args(Arch))}, found 'trans"),
        ({"loss": "huber"}, (6,), "^loss: expected one of mse, bce, mae, found 'huber'$"),
        ({"noise": 0.5}, (6,), "^noise has no effect with the objective plain; leave it out, or choose the"),
        (
            {"objective": "denoising", "noise_kind": "masking", "noise": 2.0},
            (6,),
            "^noise: masking hits a share of the values, expected at most 1, found 2.0$",
        ),
        (
            {"objective": "sparse", "sparsity": "kl", "sparsity_target": 1.0},
            (6,),
            "^sparsity_target: expected between 0 and 1, found 1.0$",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_what_does(settings, shape, told):
    with pytest.raises(SettingsError, match=told):
        train(Data(np.zeros((40, *shape), np.float32), None), TrainConfig(**settings))


def test_the_commands_options_are_the_settings():
    options = {option.name: option for option in command.params}
    defaults = msgspec.structs.asdict(TrainConfig())
    assert defaults.keys() <= options.keys()
    for name, default in defaults.items():
        if options[name].default not in (None, ()) and "UNSET" not in repr(options[name].default):
            assert options[name].default == default, name
        if isinstance(options[name].type, click.Choice):
            kinds = {"arch": Arch, "objective": Objective, "loss": Loss, "sparsity": Sparsity}
            kinds |= {"noise_kind": NoiseKind, "scaler": ScalerKind}
            assert tuple(options[name].type.choices) == get_args(kinds[name])


def test_fewer_rows_than_a_batch_are_refused_with_the_numbers_and_a_batch_that_would_do():
    rows = random_rows(50)
    with pytest.raises(DataError) as caught:
        train(rows, TrainConfig(batch_size=46))
    assert str(caught.value) == (
        "45 rows to train on are fewer than a batch of 46; give more rows, or batch_size=11"
    )
    train(rows, TrainConfig(hidden=(4,), batch_size=11, epochs=1))


@pytest.mark.parametrize("batch_size", [8, 45])  # 45: the only step is the last one, and the loss precedes it
def test_a_loss_that_is_no_number_ends_the_training_at_once_and_quietly(batch_size, capfd):
    epochs = []
    config = TrainConfig(epochs=20, batch_size=batch_size, learning_rate=1e30)
    with pytest.raises(
        TrainingError, match=r"^the loss is no longer a number in epoch 1; try a smaller learning_rate or"
    ):
        train(random_rows(50), config, progress=lambda epoch, logs: epochs.append(epoch))
    assert epochs == [1]
    assert capfd.readouterr() == ("", "")


# --- the run folder ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits.run"
    trained.save(folder)
    return folder


def test_a_run_folder_holds_model_settings_history_picture_and_held_out_rows(run, trained):
    assert sorted(path.name for path in run.iterdir()) == [
        "autoencoder.keras",
        "history.csv",
        "holdout.npy",
        "loss.png",
        "run.json",
    ]
    with (run / "history.csv").open(newline="") as file:
        names, *rows = csv.reader(file)
    assert names == ["epoch", "loss", "val_loss", "learning_rate"]
    assert [int(row[0]) for row in rows] == list(range(1, 11))
    columns = {name: [float(row[i]) for row in rows] for i, name in enumerate(names)}
    assert columns["loss"] == trained.history["loss"]
    assert columns["val_loss"] == trained.history["val_loss"]
    assert (run / "loss.png").read_bytes().startswith(PNG)
    np.testing.assert_array_equal(np.load(run / "holdout.npy"), trained.held_out)
    config = json.loads((run / "run.json").read_text())["config"]
    assert (
        config.items()
        >= {
            "arch": "dense",
            "hidden": [32],
            "latent": 8,
            "loss": "mse",
            "scaler": "minmax",
            "epochs": 10,
            "batch_size": 32,
            "validation_split": 0.1,
            "patience": 5,
            "learning_rate": 0.001,
            "seed": 3,
        }.items()
    )


def test_what_is_saved_comes_back_the_same(run, trained):
    source = load_run(run)
    assert (source.scaler, source.input) == (trained.scaler, trained.input)
    scaled = scaled_by_hand(trained, trained.held_out)
    code = source.encoder(scaled)
    np.testing.assert_array_equal(code, trained.model.get_layer("encoder")(scaled))
    np.testing.assert_array_equal(source.decoder(code), trained.model(scaled))


def test_names_of_columns_are_kept(cells, tmp_path):
    trained = train(cells, TrainConfig(epochs=1))
    trained.save(tmp_path / "cells.run")
    assert load_run(tmp_path / "cells.run").input.features == cells.features


def test_a_run_that_exists_is_kept_unless_forced(run, trained, tmp_path):
    folder = tmp_path / "kept.run"
    shutil.copytree(run, folder)
    (folder / "notes.txt").write_text("of the first run")
    with pytest.raises(OutputError, match=r"kept\.run: exists already; .* or pass force=True$"):
        trained.save(folder)
    assert (folder / "notes.txt").read_text() == "of the first run"
    trained.save(folder, force=True)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in run.iterdir())
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_is_no_run_is_not_replaced_even_if_forced(trained, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"thesis: is a folder without run\.json, so not one to replace"):
        trained.save(tmp_path / "thesis", force=True)
    assert (tmp_path / "thesis" / "mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    trained.save(tmp_path / "empty", force=True)
    assert (tmp_path / "empty" / "run.json").is_file()


def test_no_more_held_out_rows_are_kept_than_a_threshold_needs(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(edgeae.training.run, "MOST_HELD_OUT_ROWS", 30)
    trained.save(tmp_path / "short.run")
    np.testing.assert_array_equal(np.load(tmp_path / "short.run" / "holdout.npy"), trained.held_out[:30])
    np.testing.assert_array_equal(trained.source.rows, trained.held_out[:30])
