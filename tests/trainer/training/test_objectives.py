"""What is minimised: the formulas by hand, and that each objective does what it is for."""

import itertools
import subprocess
import sys
from typing import get_args

import keras
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import rel_entr
from sklearn.metrics import log_loss
from sklearn.neighbors import NearestNeighbors

import edgeae_runtime
from edgeae import TrainConfig, train
from edgeae.config import Objective as ObjectiveName
from edgeae.data.dataset import Data
from edgeae.models.architectures import ARCHITECTURES, Arch
from edgeae.training.build import build, posterior
from edgeae.training.objectives import (
    Objective,
    baseline,
    bernoulli_kl,
    kl_scale,
    kl_terms,
    laplacian_quotient,
)
from edgeae_export.builder import Options
from edgeae_export.pipeline import export_source

FLOATS = arrays.arrays(np.float32, (7, 3), elements=st.floats(-3, 3, width=32))

# --- formulas ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(FLOATS, FLOATS)
def test_the_divergence_from_the_prior_is_the_integral(mean, log_variance):
    mean, log_variance = mean.astype(np.float64), log_variance.astype(np.float64)
    deviation = np.exp(log_variance / 2)
    z = mean[..., None] + deviation[..., None] * np.linspace(-12, 12, 4001)
    log_q = -0.5 * ((z - mean[..., None]) / deviation[..., None]) ** 2 - np.log(deviation)[..., None]
    integral = np.trapezoid(np.exp(log_q) / np.sqrt(2 * np.pi) * (log_q + 0.5 * z**2), z, axis=-1)
    np.testing.assert_allclose(kl_terms(mean, log_variance), integral, rtol=1e-4, atol=1e-4)


def test_the_divergence_from_a_target_activation_is_scipys():
    q = np.float32([0.01, 0.05, 0.3, 0.99])
    wanted = rel_entr(0.05, q) + rel_entr(0.95, 1 - q)
    np.testing.assert_allclose(bernoulli_kl(0.05, q), wanted, rtol=1e-3, atol=1e-6)
    assert np.isfinite(bernoulli_kl(0.05, np.float32([0, 1]))).all()


def test_the_laplacian_is_that_of_scikit_learns_graph_of_neighbours(digits):
    rows = digits.values[:60].reshape(60, -1) / 16
    code = np.random.default_rng(0).normal(size=(60, 4))
    graph = NearestNeighbors(n_neighbors=5).fit(rows).kneighbors_graph().toarray()
    graph = np.maximum(graph, graph.T)
    degree = np.diag(graph.sum(axis=1))
    centred = code - np.average(code, axis=0, weights=graph.sum(axis=1))
    wanted = np.trace(centred.T @ (degree - graph) @ centred) / np.trace(centred.T @ degree @ centred)
    assert float(laplacian_quotient(rows, np.float32(code))) == pytest.approx(wanted, rel=1e-4)
    shrunk = float(laplacian_quotient(rows, np.float32(7 + 0.01 * code)))
    assert shrunk == pytest.approx(wanted, rel=1e-2)  # no code gets by with shrinking


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_laplacian_bears_batches_smaller_than_the_neighbourhood(count):
    rows = np.float32(np.random.default_rng(0).normal(size=(count, 3)))
    assert 0 <= float(laplacian_quotient(rows, rows)) <= 2


def test_the_baseline_is_the_loss_of_predicting_the_mean():
    rows = np.float32(np.random.default_rng(0).uniform(size=(50, 4)) ** 2)
    mean = np.broadcast_to(rows.mean(axis=0), rows.shape)
    assert baseline("mse", rows) == pytest.approx(np.mean((rows - mean) ** 2), rel=1e-5)
    assert baseline("mae", rows) == pytest.approx(np.mean(np.abs(rows - np.median(rows, axis=0))), rel=1e-5)
    flags = np.float32(rows > 0.3)
    wanted = np.mean([log_loss(flags[:, j], np.full(50, flags[:, j].mean())) for j in range(4)])
    assert baseline("bce", flags) == pytest.approx(wanted, rel=1e-5)


def test_the_weight_of_the_divergence_makes_the_loss_a_likelihood():
    # bce: the sum over the values, divided by their number; Gaussian: the same, times twice its variance
    assert kl_scale("bce", 64, 0.5) == 1 / 64
    assert kl_scale("mse", 64, 0.08) == pytest.approx(2 * 0.25 * 0.08 / 64)
    assert kl_scale("mae", 64, 0.2) == pytest.approx(0.5 * 0.2 / 64)


def objective(**changes):
    config = TrainConfig(arch="dense", hidden=(6,), latent=3, loss="mse", **changes)
    keras.utils.set_random_seed(1)
    model = build((5,), config)
    spread = posterior(model.get_layer("encoder")) if config.objective == "variational" else None
    whole = Objective(model, config, 2.0, spread)
    whole.compile("adam", jit_compile=False)
    return model, whole


def loss_of(whole, x):
    return float(whole.compute_loss(x, x, whole(x, training=False), training=False))


X = np.float32(np.random.default_rng(0).normal(size=(32, 5)))


def test_sparse_losses_add_the_penalty_by_hand():
    for kind in ("l1", "kl"):
        model, whole = objective(objective="sparse", sparsity=kind, sparsity_weight=0.3)
        code = np.asarray(model.get_layer("encoder")(X), np.float64)
        assert code.min() >= 0
        q = code.mean(axis=0)
        penalty = code.mean() if kind == "l1" else np.mean(rel_entr(0.05, q) + rel_entr(0.95, 1 - q))
        wanted = np.mean((np.asarray(model(X)) - X) ** 2) + 2.0 * 0.3 * penalty
        assert loss_of(whole, X) == pytest.approx(wanted, rel=1e-4)


def jacobian_norms(encoder, rows, step=1e-3):
    """Squared Frobenius norms (n,) of an encoder's Jacobian, by central differences in float64's stead."""
    flat = rows.reshape(len(rows), -1)
    total = np.zeros(len(rows))
    for column in range(flat.shape[1]):
        shift = np.zeros_like(flat)
        shift[:, column] = step
        ahead, behind = (
            np.asarray(encoder((flat + s).reshape(rows.shape)), np.float64) for s in (shift, -shift)
        )
        total += np.sum(((ahead - behind) / (2 * step)) ** 2, axis=1)
    return total


def test_the_contractive_penalty_is_the_jacobians_norm_on_average():
    model, whole = objective(objective="contractive", contractive_weight=1.0)
    many = np.repeat(X, 400, axis=0)  # each of them meets another random direction
    penalty = loss_of(whole, many) - np.mean((np.asarray(model(X)) - X) ** 2)
    wanted = 2.0 * jacobian_norms(model.get_layer("encoder"), X).mean() / 3
    assert penalty == pytest.approx(wanted, rel=0.03)


def test_the_variational_loss_samples_around_the_mean():
    model, whole = objective(objective="variational", kl_weight=2.0)
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    mean = np.asarray(encoder(X))
    divergence = 0.5 * np.sum(mean.astype(np.float64) ** 2, axis=1).mean()  # the variance starts at 1
    many = np.repeat(X, 400, axis=0)
    rng = np.random.default_rng(3)
    sampled = np.repeat(mean, 400, axis=0) + np.float32(rng.normal(size=(len(many), 3)))
    wanted = np.mean((np.asarray(decoder(sampled)) - many) ** 2) + 2.0 * kl_scale("mse", 5, 2.0) * divergence
    assert loss_of(whole, many) == pytest.approx(wanted, rel=0.03)


def test_what_is_random_is_decided_by_seed_and_step_and_in_validation_by_nothing():
    _, whole = objective(objective="variational", seed=4)
    one, again = (np.asarray(whole(X, training=True)["reconstruction"]) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    still = np.asarray(whole(X, training=False)["reconstruction"])
    whole.optimizer.build(whole.trainable_variables)
    whole.optimizer.iterations.assign(1)
    assert not np.array_equal(one, whole(X, training=True)["reconstruction"])
    np.testing.assert_array_equal(still, whole(X, training=False)["reconstruction"])


def test_penalties_on_kernels_are_added():
    config = TrainConfig(hidden=(6,), latent=3, loss="mse", l2=0.1, objective="sparse", sparsity_weight=0.0)
    model = build((5,), config)
    whole = Objective(model, config, 1.0, None)
    kernels = [w for w in model.get_weights() if w.ndim == 2]
    wanted = np.mean((np.asarray(model(X)) - X) ** 2) + 0.1 * sum(np.sum(k**2) for k in kernels)
    assert loss_of(whole, X) == pytest.approx(wanted, rel=1e-4)


# --- what they are for ---------------------------------------------------------------------------

SMALL = TrainConfig(hidden=(48,), latent=12, epochs=20, batch_size=32, learning_rate=3e-3)


@pytest.fixture(scope="module")
def fits(digits):
    """Trains on digits once per settings."""
    known = {}

    def fit(**changes):
        key = msgspec.json.encode(changes)
        if key not in known:
            known[key] = train(digits, msgspec.structs.replace(SMALL, **changes))
        return known[key]

    return fit


def scaled_held_out(trained):
    return trained.scaler.scale(trained.held_out).reshape(-1, *trained.model.input_shape[1:])


def codes(trained):
    return np.asarray(trained.model.get_layer("encoder")(scaled_held_out(trained)))


ARCHS = get_args(Arch)
PAIRS = [
    (arch, objective)
    for objective in get_args(ObjectiveName)
    for arch in ARCHS
    if ARCHITECTURES[arch].activations or objective != "sparse"
]


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "objective"), PAIRS)
def test_every_pair_learns_more_than_the_mean_and_becomes_a_bundle_that_scores(
    digits, arch, objective, tmp_path
):
    images, sizes = digits, {}
    if arch in ("lstm", "gru"):  # their export takes long: four steps, the middle rows of an image
        images, sizes = Data(digits.values[:, 2:6], None), {"hidden": (24,)}
    config = TrainConfig(
        arch=arch, objective=objective, latent=8, epochs=8, batch_size=32, learning_rate=5e-3, **sizes
    )
    trained = train(images, config)
    rows = scaled_held_out(trained)
    error = np.mean((np.asarray(trained.model(rows)) - rows) ** 2)
    assert error < 0.75 * np.mean(np.var(rows, axis=0))
    assert trained.model.get_layer("encoder").output_shape == (None, 8)

    export_source(trained.source, tmp_path / "x.edgeae", Options(formats=("onnx",)))
    errors = np.mean((np.asarray(trained.model(rows)) - rows).reshape(len(rows), -1) ** 2, axis=1)
    for precision, tolerance in (("float32", 1e-4), ("int8", 0.1)):
        ae = edgeae_runtime.load(tmp_path / "x.edgeae", precision=precision)
        np.testing.assert_allclose(ae.score(trained.held_out), errors, rtol=tolerance)


@pytest.mark.slow
def test_a_denoising_model_removes_more_noise_than_a_plain_one(fits):
    plain, denoising = fits(), fits(objective="denoising", noise=0.3)
    rows = scaled_held_out(plain)
    noisy = rows + np.float32(0.3 * np.random.default_rng(0).normal(size=rows.shape))
    errors = [np.mean((np.asarray(t.model(noisy)) - rows) ** 2) for t in (plain, denoising)]
    assert errors[1] < 0.9 * errors[0] < 0.3**2


@pytest.mark.slow
def test_sparse_codes_are_sparser(fits):
    def sparseness(z):
        """Hoyer 2004, section 3.1: 0 for equal entries, 1 for a single one."""
        root = np.sqrt(z.shape[1])
        ratio = np.abs(z).sum(axis=1) / (np.sqrt(np.square(z).sum(axis=1)) + 1e-12)
        return np.mean((root - ratio) / (root - 1))

    plain, l1, kl = (codes(fits(**c)) for c in ({}, {"objective": "sparse"}, KL))
    assert sparseness(l1) > sparseness(plain) + 0.1
    assert np.mean(l1 == 0) > 0.25
    assert 0.5 * 0.05 < np.mean(kl) < 2 * 0.05


KL = {"objective": "sparse", "sparsity": "kl", "sparsity_weight": 1.0}


@pytest.mark.slow
def test_a_contractive_encoder_has_the_smaller_jacobian(fits):
    norms = [
        jacobian_norms(t.model.get_layer("encoder"), scaled_held_out(t)).mean()
        for t in (fits(), fits(objective="contractive"))
    ]
    assert norms[1] < 0.5 * norms[0]


@pytest.mark.slow
def test_a_variational_code_has_a_finite_divergence_and_can_be_sampled(fits, tmp_path):
    trained = fits(objective="variational")
    rows = scaled_held_out(trained)
    terms = np.asarray(kl_terms(codes(trained), np.asarray(trained.posterior(rows)))).mean(axis=0)
    assert np.isfinite(terms).all() and 1 < terms.sum() < 60
    drawn = np.float32(np.random.default_rng(0).normal(size=(200, 12)))
    images = np.asarray(trained.model.get_layer("decoder")(drawn))
    distances = ((images[:, None] - rows[None]) ** 2).mean(axis=2)
    assert (
        np.median(distances.min(axis=1)) < np.var(rows, axis=0).mean()
    )  # nearer to a digit than their mean is

    trained.save(tmp_path / "v.run")
    saved = keras.saving.load_model(tmp_path / "v.run" / "posterior.keras", compile=False)
    np.testing.assert_array_equal(saved(rows), trained.posterior(rows))
    assert fits().posterior is None


@pytest.mark.slow
def test_neighbours_are_nearer_with_the_laplacian(fits):
    def quotient(trained):
        return float(laplacian_quotient(scaled_held_out(trained), codes(trained)))

    assert quotient(fits(laplacian=0.3)) < 0.9 * quotient(fits())


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
def test_the_largest_norm_holds_in_every_layer(digits, arch):
    few = Data(digits.values[:256, 2:6], None)
    config = TrainConfig(arch=arch, latent=4, epochs=2, batch_size=32, learning_rate=0.02, max_norm=0.5)
    norms, model = [], train(few, config).model
    for part in ("encoder", "decoder"):
        for layer in model.get_layer(part)._flatten_layers():
            for weight in getattr(layer, "_trainable_variables", []):
                if weight.name.endswith("kernel"):
                    kernel = weight.numpy()
                    transposed = "Transpose" in type(layer).__name__
                    unit = kernel.ndim - (2 if transposed else 1)
                    axes = tuple(axis for axis in range(kernel.ndim) if axis != unit)
                    norms += list(np.sqrt(np.square(kernel).sum(axis=axes)))
    assert len(norms) > 20 and max(norms) < 0.5001 and max(norms) > 0.499


@pytest.mark.parametrize(("arch", "widths"), [("dense", [64, 20, 10, 4]), ("linear", [64, 4])])
def test_tied_weights_are_half_as_many_while_training_and_saved_as_plain_layers(digits, arch, widths):
    sizes = {"hidden": tuple(widths[1:-1]), "latent": widths[-1]}
    config = TrainConfig(arch=arch, epochs=2, batch_size=64, tied=True, loss="mse", **sizes)

    def kernels(model):
        return sum(w.size for w in model.get_weights() if w.ndim == 2)

    tied = build((8, 8), config)
    wanted = sum(a * b for a, b in itertools.pairwise(widths))
    assert kernels(tied) == wanted
    trained = train(digits, config)
    assert kernels(trained.model) == 2 * wanted
    encoder, decoder = (
        [layer.kernel.numpy() for layer in trained.model.get_layer(part).layers if layer.weights]
        for part in ("encoder", "decoder")
    )
    for kernel, back in zip(encoder, reversed(decoder), strict=True):
        np.testing.assert_array_equal(back, kernel.T)
    best = min(trained.history["val_loss"])
    rows = scaled_held_out(trained)
    assert np.mean((np.asarray(trained.model(rows)) - rows) ** 2) == pytest.approx(best, rel=1e-4)


@pytest.mark.slow
def test_every_run_is_read_by_a_process_that_knows_nothing_but_keras(digits, tmp_path):
    few = Data(digits.values[:200], None)
    for name, changes in {
        "tied": {"tied": True, "max_norm": 2.0, "l2": 1e-4},
        "conv": {"arch": "conv2d", "objective": "variational"},
        "series": {"arch": "conv1d", "objective": "denoising"},
        "lstm": {"arch": "lstm", "objective": "contractive", "laplacian": 0.1},
    }.items():
        train(few, TrainConfig(latent=4, epochs=1, batch_size=64, **changes)).save(tmp_path / f"{name}.run")
    code = (
        "import sys, keras, pathlib\n"
        f"for path in sorted(pathlib.Path({str(tmp_path)!r}).glob('*.run/*.keras')):\n"
        "    print(path.parent.name, keras.saving.load_model(path, compile=False).name)\n"
        "assert not [name for name in sys.modules if name.startswith('edgeae')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "conv.run autoencoder",
        "conv.run posterior",
        "lstm.run autoencoder",
        "series.run autoencoder",
        "tied.run autoencoder",
    ]
