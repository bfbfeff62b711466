"""The state of a training after each epoch, in one file beside the run, so that it survives a kill.

Keras's own `BackupAndRestore` keeps weights and optimizer, but not what early stopping and the learning
rate's schedule remember; a training resumed with it would stop at another epoch, with other weights.
"""

import hashlib
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeae_runtime.files import new_file

from ..config import TrainConfig
from ..data.dataset import Data
from .partial import ResumeError

CHUNK = 1 << 16
"""Rows that are hashed at a time."""
_CALLBACK_STATE = {"early": ("wait", "best", "best_epoch"), "plateau": ("wait", "best", "cooldown_counter")}


def identify(config: TrainConfig, data: Data) -> dict[str, Any]:
    """Return what must be the same for a training to be continued: settings, data, versions."""
    form = (data.values.dtype, data.values.shape, data.features, data.window, data.segments)
    digest = hashlib.sha256(repr(form).encode())
    for start in range(0, len(data.values), CHUNK):
        digest.update(np.ascontiguousarray(data.values[start : start + CHUNK]).data)
    versions = {"keras": keras.version(), "numpy": np.__version__, "backend": keras.backend.backend()}
    return {"settings": msgspec.to_builtins(config), "data": digest.hexdigest(), "versions": versions}


class Checkpoint(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Keeps the history and, where there is a path, writes everything that a training is after each epoch.

    It comes after the callbacks that it takes: it stores what they have made of an epoch, and restores it
    after they have reset themselves.
    """

    def __init__(
        self,
        path: Path | None,
        identity: dict[str, Any],
        early: keras.callbacks.EarlyStopping,
        plateau: keras.callbacks.ReduceLROnPlateau,
    ) -> None:
        """Take the other callbacks whose memory belongs to the state.

        Args:
            path: the file; None keeps nothing.
            identity: from `identify`.
            early: early stopping.
            plateau: the learning rate's schedule.
        """
        super().__init__()
        self.path, self.identity = path, identity
        self._callbacks = {"early": early, "plateau": plateau}
        self.history: dict[str, list[float]] = {}
        self._restored: tuple[dict[str, Any], dict[str, NDArray[Any]]] | None = None

    def read(self) -> int:
        """Read the file, for the training that starts next, and return the epoch to go on with, from 0.

        Raises:
            ResumeError: it is damaged, or of other settings, data or versions.
        """
        assert self.path is not None
        try:
            # np.load itself leaves a damaged file open
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = dict(file)
            state = json.loads(bytes(arrays.pop("state")))
            found = state["identity"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ResumeError(f"{self.path}: cannot be read ({error}); delete it to start again") from error
        if differences := _differences(found, json.loads(json.dumps(self.identity))):
            raise ResumeError(
                f"{self.path}: was made with {'; '.join(differences)}; resume with the same, or delete it to "
                "start again"
            )
        self._restored = state, arrays
        return int(state["epoch"]) if not state["stopped"] else int(found["settings"]["epochs"])

    def on_train_begin(self, logs: Any = None) -> None:
        """Put everything back to where it was."""
        if self._restored is None:
            return
        state, arrays = self._restored
        self.model.optimizer.build(self.model.trainable_variables)
        for name, variables in self._variables().items():
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"{name}.{i}"])
        for name, callback in self._callbacks.items():
            for attribute, value in state[name].items():
                setattr(callback, attribute, value)
        self._callbacks["early"].best_weights = [arrays[f"best.{i}"] for i in range(state["best_weights"])]
        self.history = state["history"]

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Write the state, unless the loss is no number any more."""
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        if self.path is None or not all(map(math.isfinite, logs.values())):
            return
        best = self._callbacks["early"].best_weights or []
        arrays = {f"best.{i}": weight for i, weight in enumerate(best)}
        for name, variables in self._variables().items():
            arrays |= {f"{name}.{i}": np.asarray(variable) for i, variable in enumerate(variables)}
        state: dict[str, Any] = {
            "epoch": epoch + 1,
            "stopped": bool(self.model.stop_training),
            "best_weights": len(best),
            "history": self.history,
            "identity": self.identity,
        }
        for name, callback in self._callbacks.items():
            state[name] = {a: _plain(getattr(callback, a)) for a in _CALLBACK_STATE[name]}
        content = np.frombuffer(json.dumps(state).encode(), np.uint8)
        with new_file(self.path) as file, file.open("wb") as stream:
            np.savez(stream, state=content, **arrays)

    def _variables(self) -> dict[str, list[Any]]:
        return {"model": self.model.variables, "optimizer": self.model.optimizer.variables}


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, np.floating) else value


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return what a checkpoint was made with and the training now does without, as phrases."""
    differences = []
    for name, value in wanted["settings"].items():
        before = found["settings"].get(name)
        if before != value:
            differences.append(f"{name} {_show(before)}, not {_show(value)}")
    if found["data"] != wanted["data"]:
        differences.append("other data")
    for name, value in wanted["versions"].items():
        if found["versions"].get(name) != value:
            differences.append(f"{name} {found['versions'].get(name)}, not {value}")
    return differences


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
