"""The inference engines, each behind the same two lines: load an artifact's bytes, run it on a batch.

Both are imported when the first artifact is loaded, not before.
"""

import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ._errors import EngineError
from ._manifest import TENSORS, Floats, Format, Precision, Role

ENGINE_FORMATS: dict[str, Format] = {"onnxruntime": "onnx", "litert": "tflite"}
"""Which artifact format each engine runs."""


BATCH_ROWS = 1024
"""Rows given to an engine at once: enough to be efficient, little enough for a small device's memory."""


class Engine(Protocol):
    """A loaded artifact."""

    shape: tuple[int, ...]
    """Shape of one input row, without the batch axis."""

    def run(self, batch: Floats) -> list[Floats]:
        """Return the role's outputs (see `TENSORS`) for a C-contiguous float32 (n, *shape), n >= 1."""


def load_engine(name: str, content: bytes, role: Role, threads: int) -> Engine:
    """Load an artifact into the engine called ``name``.

    Raises:
        EngineError: the engine is not installed, or it does not accept the artifact.
    """
    engines: dict[str, Callable[[bytes, Role, int], Engine]] = {
        "onnxruntime": _OnnxRuntime,
        "litert": _LiteRT,
    }
    try:
        return engines[name](content, role, threads)
    except ImportError as error:
        package = {"onnxruntime": "edgeae-runtime", "litert": "edgeae-runtime[litert]"}[name]
        raise EngineError(f"{name} is not installed here ({error}); pip install '{package}'") from error
    except Exception as error:  # the engines raise types of their own, private ones among them
        raise EngineError(f"{name} cannot load the {role}: {_one_line(error)}") from error


def run_batches(
    engine: Engine, batch: NDArray[Any], precision: Precision, file_format: Format
) -> list[NDArray[Any]]:
    """Run any number of rows, a bounded number at a time.

    A dynamic ONNX model takes the range of its activations over all rows of a call: a row would get
    another score in other company. Such a model is given one row at a time.

    Raises:
        EngineError: the engine fails.
    """
    limit = 1 if (precision, file_format) == ("dynamic", "onnx") else BATCH_ROWS
    try:
        if len(batch) <= limit:
            return engine.run(batch)
        parts = [engine.run(batch[i : i + limit]) for i in range(0, len(batch), limit)]
    except Exception as error:  # types of their own, as above
        raise EngineError(f"the {file_format} model cannot be run: {_one_line(error)}") from error
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _check_tensors(role: Role, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Refuse a model that was made for another role."""
    wanted, wanted_outputs = TENSORS[role]
    if wanted not in inputs or not {*wanted_outputs} <= {*outputs}:
        found = ", ".join([*inputs, *outputs])
        raise ValueError(f"its tensors are {found}; expected {', '.join([wanted, *wanted_outputs])}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class _OnnxRuntime:
    """ONNX Runtime on CPU: sequential and without spinning, which is what a small model wants."""

    def __init__(self, content: bytes, role: Role, threads: int) -> None:
        # its Linux builds report usage to their maker; a device in the field must not
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors only: hints about other devices do not help here
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        inputs = session.get_inputs()
        _check_tensors(role, [i.name for i in inputs], [o.name for o in session.get_outputs()])
        self._run = session.run
        self._input, outputs = TENSORS[role]
        self._outputs = list(outputs)
        self.shape: tuple[int, ...] = tuple(inputs[0].shape[1:])

    def run(self, batch: Floats) -> list[Floats]:
        results: list[Floats] = self._run(self._outputs, {self._input: batch})
        return results


@contextmanager
def _native_messages_muted() -> Iterator[None]:
    """Keep native code from writing to standard error, which no setting of LiteRT does."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


class _LiteRT:
    """LiteRT (formerly TensorFlow Lite); its buffers are laid out anew when the batch size changes."""

    def __init__(self, content: bytes, role: Role, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        interpreter: Any = Interpreter(model_content=content, num_threads=threads)
        with _native_messages_muted():  # the first one in a process reports which kernels it uses
            interpreter.allocate_tensors()
        signature: Any = interpreter.get_signature_runner()
        self._interpreter = interpreter
        input_name, output_names = TENSORS[role]
        inputs: dict[str, Any] = signature.get_input_details()
        outputs: dict[str, Any] = signature.get_output_details()
        _check_tensors(role, inputs, outputs)
        details: dict[str, Any] = inputs[input_name]
        self._input: int = details["index"]
        self._outputs: list[int] = [outputs[name]["index"] for name in output_names]
        self.shape: tuple[int, ...] = tuple(int(n) for n in details["shape"][1:])
        self._rows = 0
        self._lock = threading.Lock()  # the interpreter's buffers are shared by all callers

    def run(self, batch: Floats) -> list[Floats]:
        interpreter = self._interpreter
        with self._lock:
            if len(batch) != self._rows:
                interpreter.resize_tensor_input(self._input, batch.shape)
                interpreter.allocate_tensors()
                self._rows = len(batch)
            interpreter.set_tensor(self._input, batch)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in self._outputs]
