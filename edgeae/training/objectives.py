"""Training objectives: a reconstruction loss, and what an objective or a regularization adds to it.

With L the loss (mean over values and rows), B the loss of predicting the mean of the training rows, d the
size of the code, z the code, h the encoder, all samples x in scaled units::

    plain         L(x, g(h(x)))
    denoising     L(x, g(h(noisy x)))             Vincent et al. 2010, section 3
    sparse, l1    L + B w mean(z)                 with a ReLU code; z >= 0
    sparse, kl    L + B w / d sum_j KL(p || mean of z_j over the batch)     Ng 2011, CS294A, section 3
    contractive   L + B w / d mean ||dh/dx||_F^2  Rifai et al. 2011, equation 4
    variational   L + S w mean KL(N(mean, variance) || N(0, 1))             Kingma & Welling 2014, appendix B
    laplacian     + B w trace(Z'LZ) / trace(Z'DZ) Belkin & Niyogi 2003, equation 2.2

B makes the weights independent of units, scaler and loss. For the variational objective, S turns a mean
loss into the log-likelihood of a whole sample of ``size`` values; see `kl_scale`.
"""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from edgeae_runtime import Floats

from ..config import Loss, TrainConfig

NEIGHBOURS = 5
"""Nearest neighbours of a sample within its batch, in the graph whose Laplacian is used."""
EXPLAINED_SHARE = 0.75
"""Share of the data's variance that a variational decoder is taken to explain."""
EPSILON = 1e-7

KERAS_LOSSES: dict[Loss, str] = {"mse": "mse", "bce": "binary_crossentropy", "mae": "mae"}


def baseline(loss: Loss, scaled: Floats) -> float:
    """Return the loss of predicting the mean (the median, for mae) of rows (n, ...) in scaled units."""
    rows = scaled.reshape(len(scaled), -1).astype(np.float64)
    if loss == "mae":
        return float(np.abs(rows - np.median(rows, axis=0)).mean())
    if loss == "mse":
        return float(rows.var(axis=0).mean())
    p: NDArray[np.float64] = np.clip(rows.mean(axis=0), EPSILON, 1 - EPSILON)
    return float(-(p * np.log(p) + (1 - p) * np.log(1 - p)).mean())


def kl_scale(loss: Loss, size: int, base: float) -> float:
    """Return the weight of the KL divergence with which a mean loss is the evidence lower bound.

    For bce that is 1 / size. For mse the decoder is a Gaussian, for mae a Laplace distribution, whose
    spread is what remains of the data's when 75 % of the variance is explained: their likelihoods are
    multiplied with twice their variance, and with their scale.

    Args:
        loss: the reconstruction's.
        size: values in a sample.
        base: see `baseline`.
    """
    left = 1 - EXPLAINED_SHARE
    return {"bce": 1.0, "mse": 2 * left * base, "mae": math.sqrt(left) * base}[loss] / size


def needs_more(config: TrainConfig) -> bool:
    """Whether anything but a loss and Keras's own kernel regularization is minimised."""
    return config.objective in ("sparse", "contractive", "variational") or config.laplacian > 0


class Objective(keras.Model):  # type: ignore[misc]  # Keras ships no types
    """The model that is fitted where the loss is not all; the autoencoder inside it is what is kept.

    What is random is a function of the seed and the step, and in validation of nothing: a resumed training
    draws what an uninterrupted one would, and epochs compare.
    """

    def __init__(
        self, autoencoder: keras.Model, config: TrainConfig, base: float, posterior: keras.Model | None
    ) -> None:
        """Take the parts.

        Args:
            autoencoder: with the layers ``encoder`` and ``decoder``.
            config: complete settings.
            base: see `baseline`.
            posterior: of a variational objective; see `edgeae.training.build.posterior`.
        """
        super().__init__(name="objective")
        self.encoder, self.decoder = autoencoder.get_layer("encoder"), autoencoder.get_layer("decoder")
        self.posterior = posterior
        self.config, self.base = config, base
        self.size = math.prod(autoencoder.input_shape[1:])
        self._loss = keras.losses.get(KERAS_LOSSES[config.loss or "mse"])
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Return the reconstruction, the code, and the penalty that the objective takes from them."""
        kind, config = self.config.objective, self.config
        if kind == "variational":
            assert self.posterior is not None
            code, log_variance = self.encoder(inputs), self.posterior(inputs)
            penalty = kl_scale(config.loss or "mse", self.size, self.base) * config.kl_weight
            penalty *= ops.mean(ops.sum(kl_terms(code, log_variance), axis=-1))
            sampled = code + ops.exp(0.5 * log_variance) * self._normal(ops.shape(code), training)
            return {"reconstruction": self.decoder(sampled), "code": code, "penalty": penalty}
        if kind == "contractive":
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                code = self.encoder(inputs)
                projected = ops.sum(code * self._normal(ops.shape(code), training))
            norms = ops.square(tape.gradient(projected, inputs))
            penalty = self.base * config.contractive_weight * ops.sum(norms)
            penalty /= ops.cast(ops.size(code), "float32")
        else:
            code = self.encoder(inputs)
            penalty = ops.zeros(())
        if kind == "sparse":
            weight = self.base * config.sparsity_weight
            if config.sparsity == "l1":
                penalty = weight * ops.mean(code)
            else:
                penalty = weight * ops.mean(bernoulli_kl(config.sparsity_target, ops.mean(code, axis=0)))
        return {"reconstruction": self.decoder(code), "code": code, "penalty": penalty}

    def compute_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the sum of everything that is minimised; ``y`` are the clean samples."""
        loss = ops.mean(self._loss(y, y_pred["reconstruction"])) + y_pred["penalty"]
        if self.config.laplacian:
            loss += self.base * self.config.laplacian * laplacian_quotient(y, y_pred["code"])
        return loss + sum(self.losses, 0.0)

    def _normal(self, shape: Any, training: bool) -> Any:
        """Return standard normal values: those of this step, or always the same in validation."""
        step = self.optimizer.iterations if training else -1
        seed = tf.stack([tf.constant(self.config.seed, tf.int64), tf.cast(step, tf.int64)])
        return tf.random.stateless_normal(shape, seed)


def kl_terms(mean: Any, log_variance: Any) -> Any:
    """Return KL(N(mean, variance) || N(0, 1)) for each sample and dimension, in nats, (n, d)."""
    return 0.5 * (ops.square(mean) + ops.exp(log_variance) - 1 - log_variance)


def bernoulli_kl(target: float, activation: Any) -> Any:
    """Return KL(Bernoulli(target) || Bernoulli(activation)) in nats, for activations (d,) in (0, 1)."""
    q = ops.clip(activation, EPSILON, 1 - EPSILON)
    return target * ops.log(target / q) + (1 - target) * ops.log((1 - target) / (1 - q))


def laplacian_quotient(samples: Any, code: Any, neighbours: int = NEIGHBOURS) -> Any:
    """Return how far neighbours in the input are apart in the code, relative to the code's spread.

    ``trace(Z' L Z) / trace(Z' D Z)``, with W the symmetric graph of nearest neighbours, D its degrees,
    L = D - W and Z the centred code: what Laplacian eigenmaps minimise (Belkin & Niyogi 2003, section 2),
    here over the encoder's weights. A quotient, so that no code gets by with shrinking. Between 0 and 2;
    about 1 where neighbours are as far apart as any two.

    Args:
        samples: a batch (n, ...) in scaled units.
        code: its code (n, d).
        neighbours: of each sample; all others where the batch has fewer.
    """
    count = ops.shape(samples)[0]
    distance = _squared_distances(ops.reshape(samples, (count, -1)))
    others = 1.0 - ops.eye(count)
    kth = ops.minimum(neighbours, count - 1)  # in sorted order, a sample itself comes first
    reach = ops.take(ops.sort(distance * others, axis=1), kth, axis=1)
    nearest = ops.cast(distance <= reach[:, None], "float32") * others
    graph = ops.maximum(nearest, ops.transpose(nearest))
    degree = ops.sum(graph, axis=1)
    centre = ops.sum(code * degree[:, None], axis=0) / (ops.sum(degree) + EPSILON)
    centred = code - centre
    spread = ops.sum(degree * ops.sum(ops.square(centred), axis=1))
    return 0.5 * ops.sum(graph * _squared_distances(centred)) / (spread + EPSILON)


def _squared_distances(rows: Any) -> Any:
    """Return (n, n) squared Euclidean distances of rows (n, values)."""
    squares = ops.sum(ops.square(rows), axis=1)
    products = ops.matmul(rows, ops.transpose(rows))
    return ops.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)
