"""The inference engines, each behind the same few lines: load an artifact's bytes, run it on rows.

Neither gets threads of its own: they would cost a small model more than they give, and would not survive a
fork. Many rows are shared out among Python's threads; both engines let go of its lock while they compute.
"""

import math
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._errors import EngineError
from ._manifest import TENSORS, Floats, Format, Precision, Role
from ._names import ENGINE_FORMATS as ENGINE_FORMATS

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

ENGINE_MODULES = {"onnxruntime": "onnxruntime", "litert": "ai_edge_litert"}

BATCH_ROWS = 128
"""Rows given to an engine at once: enough to be efficient, little enough for a small device's caches."""

RowRunner: TypeAlias = Callable[[NDArray[Any]], tuple[Floats, np.float32]]
"""Takes one float32 sample of any memory layout; returns its embedding and error, the caller's own."""


class _Bound(NamedTuple):
    """Fixed buffers: write the input, run, read the outputs."""

    input: Floats
    run: Callable[[], object]
    outputs: list[Floats]
    owner: object = None
    """What must live as long as the buffers are used."""


class Engine:
    """A loaded artifact. Any number of threads may call it; what it returns is the caller's own."""

    shape: tuple[int, ...]
    """Shape of one input row, without the batch axis."""

    sizes: list[int]
    """How many values each of the role's outputs has for one row."""

    def __init__(self, threads: int) -> None:
        """Take the number of calls of ``run`` that may go on at once."""
        self.threads = threads

    def run(self, batch: Floats) -> list[Floats]:
        """Return the role's outputs (see `TENSORS`) for a C-contiguous float32 (n, *shape), n >= 1."""
        raise NotImplementedError

    def bind(self) -> _Bound:
        """Return buffers for one row, and what runs on them."""
        raise NotImplementedError

    def one_row(self, shape: tuple[int, ...]) -> RowRunner:
        """Return the fastest way through a scorer for one sample of this shape; callers take turns.

        An encoder may be given too: the error is 0 then.
        """
        rows, run, (embeddings, *others), owner = self.bind()
        sample, embedding, lock = rows.reshape(shape), embeddings[0], Lock()
        errors = others[0] if others else np.zeros(1, np.float32)

        def run_one(values: NDArray[Any], owner: object = owner) -> tuple[Floats, np.float32]:
            with lock:
                sample[...] = values
                run()
                return embedding.copy(), errors[0]

        return run_one

    @cached_property
    def workers(self) -> "ThreadPoolExecutor":
        """Threads to help the caller's own, one less than ``threads``."""
        from concurrent.futures import ThreadPoolExecutor

        return ThreadPoolExecutor(self.threads - 1, thread_name_prefix="edgeae")


def load_engine(name: str, content: bytes, role: Role, threads: int, *, arena: bool = True) -> Engine:
    """Load an artifact into the engine called ``name``; see `ENGINE_FORMATS`.

    ``threads`` calls may run at once, or share the rows of one. With ``arena`` ONNX Runtime may keep memory
    between calls; LiteRT knows beforehand what it needs.

    Raises:
        EngineError: the engine is not installed, or it does not accept the artifact.
    """
    try:
        return (_LiteRT if name == "litert" else _OnnxRuntime)(content, role, threads, arena)
    except ImportError as error:
        remedy = f"pip install 'edgeae-runtime{'[litert]' * (name == 'litert')}'"
        if sys.maxsize < 2**32:
            remedy = "it has no wheels for a 32-bit system: use the 64-bit Raspberry Pi OS (Pi 3 and later)"
        raise EngineError(f"{name} is not installed here ({error}); {remedy}") from error
    except Exception as error:  # the engines raise types of their own, private ones among them
        raise EngineError(f"{name} cannot load the {role}: {_one_line(error)}") from error


def run_batches(
    engine: Engine, batch: NDArray[Any], precision: Precision, file_format: Format
) -> list[NDArray[Any]]:
    """Run any number of rows, a bounded number at a time, in as many threads as the engine was given.

    Where the batches begin does not depend on the number of threads, so neither do the results. A dynamic
    ONNX model, which takes the range of its activations over all rows of a call, is given one row at a time.

    Raises:
        EngineError: the engine fails.
    """
    limit = 1 if (precision, file_format) == ("dynamic", "onnx") else BATCH_ROWS
    try:
        if len(batch) <= limit:
            return engine.run(batch)
        starts = range(0, len(batch), limit)
        parts: list[list[Floats]] = [[]] * len(starts)
        numbers = iter(range(len(starts)))  # shared: each thread takes the next one when it is free

        def work() -> None:
            for number in numbers:
                start = starts[number]
                parts[number] = engine.run(batch[start : start + limit])

        helpers = [engine.workers.submit(work) for _ in range(min(engine.threads, len(starts)) - 1)]
        work()
        for helper in helpers:
            helper.result()
    except Exception as error:  # types of their own, as above
        raise EngineError(f"the {file_format} model cannot be run: {_one_line(error)}") from error
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _check_tensors(role: Role, inputs: Collection[str], outputs: Collection[str]) -> None:
    wanted, wanted_outputs = TENSORS[role]
    if wanted not in inputs or not {*wanted_outputs} <= {*outputs}:
        found = ", ".join([*inputs, *outputs])
        raise ValueError(f"its tensors are {found}; expected {', '.join([wanted, *wanted_outputs])}")


def _known(shape: Sequence[object]) -> bool:
    """Whether all but the batch axis are numbers."""
    return all(isinstance(n, int) and n > 0 for n in shape[1:])


def _address(array: Floats) -> int:
    """Return where an array lies in memory; its ``ctypes`` gives the same, and has to be imported."""
    address: int = array.__array_interface__["data"][0]
    return address


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


_EXTERNAL_DATA = "session.model_external_initializers_file_folder_path"


class _OnnxRuntime(Engine):
    def __init__(self, content: bytes, role: Role, threads: int, arena: bool) -> None:
        import onnxruntime

        from ._onnx_check import check_onnx

        super().__init__(threads)
        check_onnx(content)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
        options.log_severity_level = 3  # errors only
        # a second fence: else external data are looked for in the working directory, and bytes that look like
        # ONNX Runtime's own format are read as such
        options.add_session_config_entry(_EXTERNAL_DATA, os.path.join(os.devnull, "none"))
        options.add_session_config_entry("session.load_model_format", "ONNX")
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        inputs, named = session.get_inputs(), {o.name: o.shape for o in session.get_outputs()}
        _check_tensors(role, [i.name for i in inputs], named)
        if len(inputs) != 1 or not inputs[0].shape or not _known(inputs[0].shape):
            raise ValueError(f"its inputs are of shapes {[i.shape for i in inputs]}; expected one, known")
        self._session = session
        self._input, outputs = TENSORS[role]
        self._outputs = list(outputs)
        self.shape = tuple(inputs[0].shape[1:])
        shapes: list[Any] = [named[name] for name in outputs]
        if not all(map(_known, shapes)):  # then running a row shows them
            shapes = [output.shape for output in self.run(np.zeros((1, *self.shape), np.float32))]
        self.sizes = [math.prod(shape[1:]) for shape in shapes]

    def run(self, batch: Floats) -> list[Floats]:
        # for more than one row this beats bound buffers: it reads the batch where it lies
        results: list[Floats] = self._session.run(self._outputs, {self._input: batch})
        return results

    def bind(self) -> _Bound:
        row = np.zeros((1, *self.shape), np.float32)
        outputs = self.run(row)  # shows their shapes, which the model may leave open
        binding = self._session.io_binding()
        binding.bind_input(self._input, "cpu", 0, np.float32, row.shape, _address(row))
        for name, array in zip(self._outputs, outputs, strict=True):
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, _address(array))
        run = self._session.run_with_iobinding
        return _Bound(row, lambda: run(binding), outputs)


_first = Lock()
"""Taken for good by the first interpreter of a process: that one reports on standard error what it uses."""


@contextmanager
def _native_messages_muted() -> Iterator[None]:
    """Keep native code from writing to standard error."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


class _LiteRT(Engine):
    """One interpreter for each call that may go on at once."""

    def __init__(self, content: bytes, role: Role, threads: int, arena: bool) -> None:
        from ._tflite_check import check_tflite

        super().__init__(threads)
        check_tflite(content)
        self._content, self._role = content, role
        first = _Interpreter(content, role)
        self.shape, self.sizes = first.shape, first.sizes
        self._idle: SimpleQueue[_Interpreter | None] = SimpleQueue()
        for interpreter in [None] * (threads - 1) + [first]:
            self._idle.put(interpreter)

    def run(self, batch: Floats) -> list[Floats]:
        interpreter = self._idle.get()
        try:
            interpreter = interpreter or _Interpreter(self._content, self._role)
            return interpreter.run(batch)
        finally:
            self._idle.put(interpreter)

    def bind(self) -> _Bound:
        # one of its own, so that rows and batches by turns lay out no buffers anew
        return _Interpreter(self._content, self._role).bind(1)


class _Interpreter:
    """For one thread at a time."""

    def __init__(self, content: bytes, role: Role) -> None:
        from ai_edge_litert.interpreter import Interpreter

        interpreter: Any = Interpreter(model_content=content, num_threads=1)
        is_first = _first.acquire(blocking=False)
        with _native_messages_muted() if is_first else nullcontext():
            interpreter.allocate_tensors()
        signature: Any = interpreter.get_signature_runner()
        input_name, output_names = TENSORS[role]
        inputs: dict[str, Any] = signature.get_input_details()
        outputs: dict[str, Any] = signature.get_output_details()
        _check_tensors(role, inputs, outputs)
        details: dict[str, Any] = inputs[input_name]
        self._interpreter = interpreter
        self._input: int = details["index"]
        self._outputs: list[int] = [outputs[name]["index"] for name in output_names]
        self.shape: tuple[int, ...] = tuple(int(n) for n in details["shape"][1:])
        shapes = [outputs[name]["shape"] for name in output_names]
        self.sizes: list[int] = [math.prod(map(int, shape[1:])) for shape in shapes]
        self._rows = 0

    def _resize(self, rows: int) -> None:
        if rows != self._rows:
            self._interpreter.resize_tensor_input(self._input, (rows, *self.shape))
            self._interpreter.allocate_tensors()
            self._rows = rows

    def run(self, batch: Floats) -> list[Floats]:
        interpreter = self._interpreter
        self._resize(len(batch))
        interpreter.set_tensor(self._input, batch)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in self._outputs]

    def bind(self, rows: int) -> _Bound:
        """Return the interpreter's own buffers; it must not be used in another way afterwards.

        The public ``invoke`` refuses to run while views of buffers exist, which might move. Those that are
        there before the first run do not.
        """
        self._resize(rows)
        return self._bind_views() or self._bind_copies(rows)

    def _bind_views(self) -> _Bound | None:  # a function of its own: where it fails, no view may outlive it
        try:
            native = self._interpreter._interpreter
            run = native.Invoke
            views = [native.tensor(native, index) for index in (self._input, *self._outputs)]
        except (AttributeError, ValueError):  # another LiteRT; an output that is laid out while it runs
            return None
        # the native interpreter reads the model's bytes, but only the Python one owns them
        return _Bound(views[0], run, views[1:], self._interpreter)

    def _bind_copies(self, rows: int) -> _Bound:
        batch = np.zeros((rows, *self.shape), np.float32)
        outputs = self.run(batch)

        def run() -> None:
            for output, found in zip(outputs, self.run(batch), strict=True):
                output[...] = found

        return _Bound(batch, run, outputs)
