"""Keras, as its documentation begins: ``model.predict``."""

from pathlib import Path
from typing import Any

from . import Peer, keras_call


def convert(made: Any) -> None:
    """Keras runs the model that it has saved."""


def load(folder: Path, threads: int) -> Peer:
    scaled, model, encoder, error = keras_call.parts(folder)

    def score(rows: Any) -> tuple[Any, Any]:
        x = scaled(rows)
        embedding, reconstruction = model.predict(x, batch_size=1024, verbose=0)
        return embedding, error(x, reconstruction)

    def embed(rows: Any) -> Any:
        return encoder.predict(scaled(rows), batch_size=1024, verbose=0)

    return Peer(score, embed)
