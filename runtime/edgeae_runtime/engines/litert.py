"""LiteRT, formerly TensorFlow Lite."""

import math
from contextlib import nullcontext
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np

from ..bundle.manifest import TENSORS, Floats
from ..names import Role
from .base import Bound, Engine, check_tensors
from .quiet import native_messages_muted

_first = Lock()
"""Taken for good by the first interpreter of a process: that one reports on standard error what it uses."""


class LiteRT(Engine):
    """One interpreter for each call that may go on at once."""

    @staticmethod
    def prepare() -> object:
        """See `Engine.prepare`."""
        from ai_edge_litert import interpreter

        return interpreter

    def __init__(self, content: bytes, role: Role, threads: int, arena: bool) -> None:
        """Load a TFLite file's bytes; raise what LiteRT raises."""
        from ..artifacts.tflite_check import check_tflite

        self.threads = threads
        check_tflite(content)
        self._content, self._role = content, role
        first = _Interpreter(content, role)
        self.shape, self.sizes = first.shape, first.sizes
        self._idle: SimpleQueue[_Interpreter | None] = SimpleQueue()
        for interpreter in [None] * (threads - 1) + [first]:
            self._idle.put(interpreter)

    def run(self, batch: Floats) -> list[Floats]:
        """See `Engine.run`."""
        interpreter = self._idle.get()
        try:
            interpreter = interpreter or _Interpreter(self._content, self._role)
            return interpreter.run(batch)
        finally:
            self._idle.put(interpreter)

    def bind(self) -> Bound:
        """See `Engine.bind`."""
        # one of its own, so that rows and batches by turns lay out no buffers anew
        return _Interpreter(self._content, self._role).bind(1)


class _Interpreter:
    """For one thread at a time."""

    def __init__(self, content: bytes, role: Role) -> None:
        from ai_edge_litert.interpreter import Interpreter

        interpreter: Any = Interpreter(model_content=content, num_threads=1)
        is_first = _first.acquire(blocking=False)
        with native_messages_muted() if is_first else nullcontext():
            interpreter.allocate_tensors()
        signature: Any = interpreter.get_signature_runner()
        input_name, output_names = TENSORS[role]
        inputs: dict[str, Any] = signature.get_input_details()
        outputs: dict[str, Any] = signature.get_output_details()
        check_tensors(role, inputs, outputs)
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

    def bind(self, rows: int) -> Bound:
        """Return the interpreter's own buffers; it must not be used in another way afterwards.

        The public ``invoke`` refuses to run while views of buffers exist, which might move. Those that are
        there before the first run do not.
        """
        self._resize(rows)
        return self._bind_views() or self._bind_copies(rows)

    def _bind_views(self) -> Bound | None:  # a function of its own: where it fails, no view may outlive it
        try:
            native = self._interpreter._interpreter
            run = native.Invoke
            views = [native.tensor(native, index) for index in (self._input, *self._outputs)]
        except (AttributeError, ValueError):  # another LiteRT; an output that is laid out while it runs
            return None
        # the native interpreter reads the model's bytes, but only the Python one owns them
        return Bound(views[0], run, views[1:], self._interpreter)

    def _bind_copies(self, rows: int) -> Bound:
        batch = np.zeros((rows, *self.shape), np.float32)
        outputs = self.run(batch)

        def run() -> None:
            for output, found in zip(outputs, self.run(batch), strict=True):
                output[...] = found

        return Bound(batch, run, outputs)
