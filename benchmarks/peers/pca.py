"""scikit-learn's PCA with as many components as the code has values."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from . import Peer, scaler_of


def convert(made: Any) -> None:
    from sklearn.decomposition import PCA

    import edgeae_runtime

    offset, gain = scaler_of(made.folder)
    x = (made.rows - offset) * gain
    size = edgeae_runtime.Bundle(made.bundle).manifest.latent_size
    pca = PCA(size, random_state=0).fit(x.reshape(len(x), -1))
    (made.folder / "pca.pickle").write_bytes(pickle.dumps(pca))


def load(folder: Path, threads: int) -> Peer:
    offset, gain = scaler_of(folder)
    pca = pickle.loads((folder / "pca.pickle").read_bytes())

    def score(rows: Any) -> tuple[Any, Any]:
        x = ((rows - offset) * gain).reshape(len(rows), -1)
        embedding = pca.transform(x)
        return embedding, np.square(x - pca.inverse_transform(embedding)).mean(axis=1)

    return Peer(score, lambda rows: pca.transform(((rows - offset) * gain).reshape(len(rows), -1)))
