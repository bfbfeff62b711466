"""The noise that a denoising autoencoder learns to remove."""

import numpy as np

from edgeae_runtime import Floats

from ..config import NoiseKind


def corrupt(scaled: Floats, kind: NoiseKind, level: float, rng: np.random.Generator) -> Floats:
    """Return rows (n, ...) in scaled units with noise added.

    Gaussian adds values of standard deviation ``level``; masking sets a share ``level`` of the values to
    0; salt and pepper sets such a share to the rows' least or greatest value, each half of the time
    (Vincent et al. 2010, "Stacked Denoising Autoencoders", section 3.3).
    """
    if kind == "gaussian":
        return scaled + np.float32(level) * rng.standard_normal(scaled.shape, dtype=np.float32)
    hit = rng.random(scaled.shape, dtype=np.float32) < level
    if kind == "masking":
        return np.where(hit, np.float32(0), scaled)
    extremes = np.where(rng.random(scaled.shape, dtype=np.float32) < 0.5, scaled.min(), scaled.max())
    return np.where(hit, extremes, scaled)
