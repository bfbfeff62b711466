"""What an autoencoder has to beat: PCA, the identity, and an isolation forest."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import Floats, Scaler, reconstruction_error

from .subjects import Evaluated, flat_scaled

FOREST_SEED = 0
IDENTITY = "identity copy"
"""Name of what copies its input."""


def pca_subject(scaler: Scaler, fit_rows: NDArray[Any], latent: int) -> Evaluated:
    """Fit principal components, as many as the code has values, on raw rows (n, *shape)."""
    from sklearn.decomposition import PCA

    flat = flat_scaled(scaler, fit_rows)
    pca = PCA(min(latent, *flat.shape), random_state=0).fit(flat)

    def reconstruct(rows: NDArray[Any]) -> tuple[Floats, NDArray[Any], Floats]:
        scaled = flat_scaled(scaler, rows)
        codes = pca.transform(scaled)
        copies = pca.inverse_transform(codes)
        return codes, reconstruction_error(scaled, copies), copies

    return Evaluated(f"PCA-{pca.n_components_}", reconstruct, None)


def identity_subject(scaler: Scaler) -> Evaluated:
    """Return what copies its input: the picture of a model that has learned nothing."""

    def reconstruct(rows: NDArray[Any]) -> tuple[Floats, NDArray[Any], Floats]:
        scaled = flat_scaled(scaler, rows)
        return scaled, np.zeros(len(scaled)), scaled

    return Evaluated(IDENTITY, reconstruct, None)


def forest_scores(scaler: Scaler, fit_rows: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """Fit an isolation forest on raw rows (n, *shape); return what scores others, higher is stranger."""
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(random_state=FOREST_SEED).fit(flat_scaled(scaler, fit_rows))
    return lambda rows: -forest.score_samples(flat_scaled(scaler, rows))
