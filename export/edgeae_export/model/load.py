"""Reading what is to be exported: a run folder, a model's file, or models in memory."""

import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError, Input, Scaler

from ..errors import RunError
from ..source import HOLDOUT_NAME, MODEL_NAME, RUN_NAME, UNSCALED, Run, Source


def load_run(path: Path, *, latent_layer: str | None = None) -> Source:
    """Read a run folder.

    Raises:
        RunError: it is missing or incomplete.
        ModelError: see `edgeae_export.model.halves.split_model`.
    """
    for name in (RUN_NAME, MODEL_NAME, HOLDOUT_NAME):
        if not (path / name).is_file():
            raise RunError(f"{path}: not a run folder ({name} is missing); make one with `edgeae train`")
    try:
        run = msgspec.json.decode((path / RUN_NAME).read_bytes(), type=Run)
        rows = np.load(path / HOLDOUT_NAME, allow_pickle=False)
    except (msgspec.DecodeError, ValueError, OSError, EOFError) as error:
        raise RunError(f"{path}: cannot be read ({_first_line(error)}); train it again") from error
    if rows.shape[1:] != run.input.shape:
        raise DataError(
            f"{path}: {HOLDOUT_NAME} has rows {rows.shape[1:]}, {RUN_NAME} says {run.input.shape}"
        )
    from .check import check_same
    from .halves import split_model

    model = load_keras(path / MODEL_NAME)
    encoder, decoder = split_model(model, latent_layer)
    source = Source(encoder, decoder, run.scaler, run.input, rows, settings=run.config)
    check_same((model,), source)
    return source


def from_models(
    models: tuple[Any, ...],
    rows: NDArray[Any],
    *,
    scaler: Scaler = UNSCALED,
    features: tuple[str, ...] | None = None,
    latent_layer: str | None = None,
) -> Source:
    """Take an autoencoder, or an encoder and a decoder, made by any script.

    Args:
        models: one Keras model, or encoder and decoder.
        rows: normal samples that the model was not trained on, (n, *shape) or (n, size), in raw units.
        scaler: from raw units to those that the model was trained on; none by default.
        features: names along the last axis.
        latent_layer: name of the layer whose output is the code, for one model.

    Raises:
        ModelError: see `edgeae_export.model.halves`.
        DataError: the rows do not fit the model's input.
    """
    from .check import check_same
    from .halves import prepare_pair, split_model

    sample = rows.shape[1:]
    if len(models) == 1:
        encoder, decoder = split_model(models[0], latent_layer, sample)
    else:
        encoder, decoder = prepare_pair(models[0], models[1], sample)
    shape = tuple(encoder.input_shape[1:])
    size = int(np.prod(shape))
    if int(np.prod(rows.shape[1:])) != size:
        raise DataError(f"the model takes samples of shape {shape}, the data have {rows.shape[1:]}")
    source = Source(encoder, decoder, scaler, Input(shape=shape, features=features), rows.reshape(-1, *shape))
    check_same(models, source)
    return source


def load_keras(path: Path) -> Any:
    """Read a ``.keras`` file, or an ``.h5``/``.hdf5`` file of Keras 2, without its training settings.

    Raises:
        RunError: it is missing, damaged, or needs code that is not at hand.
    """
    import keras

    if not path.is_file():
        raise RunError(f"{path}: no such model file")
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise RunError(f"{path}: unknown model format {path.suffix!r}; use a .keras, .h5 or .hdf5 file")
    from ..quiet import quiet

    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Keras 3 deprecates is the old file's own affair
            return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras lets through whatever the file's reader or a layer raises
        raise RunError(
            f"{path}: Keras cannot read it ({_first_line(error)}); where it has layers of your own, load "
            "it in Python and call edgeae_export.export with the model"
        ) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
