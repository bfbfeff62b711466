"""How far an artifact is from the float Keras model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from edgeae_runtime import DataError, Fidelity, Floats, Threshold, reconstruction_error
from edgeae_runtime.bundle import DEFAULT_RULE, Rule
from edgeae_runtime.names import Role

from ..source import Source

PREDICT_ROWS = 1024


@dataclass(frozen=True)
class Reference:
    """Outputs of the float Keras model for some rows, with which every artifact is compared."""

    source: Source
    scaled: Floats
    """The rows in scaled units, in the network's input shape."""
    embedding: Floats
    """(n, latent size)."""
    reconstruction: Floats
    """In scaled units, in the network's output shape."""
    error: Any
    """(n,) float64."""

    @classmethod
    def of(cls, source: Source, rows: Any) -> "Reference":
        """Run the Keras model on raw rows (n, *shape).

        Raises:
            DataError: the model does not give back its input's shape, or its error is not finite.
        """
        scaled = source.scaler.scale(rows).reshape(-1, *source.encoder.input_shape[1:])
        code = predict(source.encoder, scaled)
        reconstruction = predict(source.decoder, code)
        if reconstruction.shape != scaled.shape:
            raise DataError(
                f"the decoder gives {reconstruction.shape[1:]} for an input of {scaled.shape[1:]}; "
                "an autoencoder gives back its input's shape"
            )
        error = reconstruction_error(scaled, reconstruction)
        if not np.isfinite(error).all():
            raise DataError("the Keras model gives NaN or infinity on the held-out rows; train it again")
        return cls(source, scaled, code.reshape(len(code), -1), reconstruction, error)

    def judge(
        self,
        role: Role,
        outputs: list[Floats],
        *,
        rule: Rule = DEFAULT_RULE,
        anomalous: NDArray[np.bool_] | None = None,
    ) -> tuple[Threshold, Fidelity]:
        """Compare an artifact's outputs for the same rows; return its own threshold and its fidelity.

        Args:
            role: of the artifact.
            outputs: its tensors in order, in float; an autoencoder's reconstruction in scaled units.
            rule: for the thresholds.
            anomalous: which rows are known anomalies, (n,); the others are normal.
        """
        embedding, reconstruction, expected = None, None, self.error
        if role == "scorer":
            embedding, error = outputs[0], outputs[1].astype(np.float64)
        elif role == "encoder":
            embedding = outputs[0]
            code = embedding.reshape(-1, *self.source.decoder.input_shape[1:])
            error = reconstruction_error(self.scaled, predict(self.source.decoder, code))
        elif role == "autoencoder":
            embedding, reconstruction = outputs[0], outputs[1].reshape(self.scaled.shape)
            error = reconstruction_error(self.scaled, reconstruction)
        else:
            reconstruction = self._scaled(outputs[0])
            error = reconstruction_error(self.scaled, reconstruction)
            # raw float32 cannot hold a small range around a large offset exactly, Keras's no more than ours
            exact = self.reconstruction.reshape(-1, *self.source.input.shape)
            rounded = self._scaled(self.source.scaler.unscale(exact))
            expected = reconstruction_error(self.scaled, rounded)
        normal = np.full(len(error), True) if anomalous is None else ~anomalous
        threshold = rule.choose(error[normal], error[~normal])
        reference = rule.choose(self.error[normal], self.error[~normal])
        # where the model is near perfect, float32's rounding is all that is left of the error
        floor = 1e-10 * float(np.mean(np.square(self.scaled, dtype=np.float64)))
        change = np.abs(error - expected) / np.maximum(expected, floor)
        return threshold, Fidelity(
            rows=len(error),
            error_median=float(np.median(change)),
            error_p99=float(np.quantile(change, 0.99)),
            rank_correlation=float(spearmanr(error, expected).statistic),
            embedding_cosine=None if embedding is None else _mean_cosine(embedding, self.embedding),
            reconstruction_max=(
                None if reconstruction is None else float(np.abs(reconstruction - self.reconstruction).max())
            ),
            false_alarms=float(np.mean(error[normal] > threshold.value)),
            false_alarms_reference=float(np.mean(error[normal] > reference.value)),
        )

    def _scaled(self, raw: Floats) -> Floats:
        """Return raw rows in scaled units, in the network's input shape."""
        samples = raw.reshape(-1, *self.source.input.shape)
        return self.source.scaler.scale(samples).reshape(self.scaled.shape)


def predict(model: Any, batch: Floats) -> Floats:
    """Return what a Keras model gives for inputs (n, …), `PREDICT_ROWS` of them at a time.

    ``model.predict`` gives the same bits, and spends four times as long around them.
    """
    starts = range(0, len(batch), PREDICT_ROWS)
    return np.concatenate([model.predict_on_batch(batch[start : start + PREDICT_ROWS]) for start in starts])


def _mean_cosine(found: Floats, expected: Floats) -> float:
    """Return the mean cosine of the rows; two rows of zeros point the same way."""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    cosine = np.sum(a * b, axis=1) / np.where(norms == 0, 1, norms)
    return float(np.where(both_zero, 1.0, cosine).mean())
