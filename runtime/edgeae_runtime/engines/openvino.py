"""OpenVINO, on the CPU."""

import math
import sys
from functools import partial
from io import BytesIO
from queue import LifoQueue
from typing import Any

import numpy as np

from ..bundle.manifest import TENSORS, Floats
from ..names import Role
from .base import BATCH_ROWS, Bound, Engine, check_tensors, one_line
from .fork import LOADING, call_lock

ROWS = (BATCH_ROWS, 16, 1)
"""Rows that a call can have, largest first: each number is compiled for itself, when it is first needed.

A model that takes any number of rows is slower by half for one of them, a GRU by ten times; and int8 LSTM
decoders come out wrong (2026.4).
"""

_SETTINGS = {
    "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 or float16 where the processor has it
    "NUM_STREAMS": 1,  # with one thread: then it is the caller's own that computes
    "INFERENCE_NUM_THREADS": 1,
    "ENABLE_CPU_PINNING": False,  # that thread has other work to do, elsewhere too
    "SNIPPETS_MODE": "DISABLE",  # its fusing of dense layers ends the process for less than 16 rows (2026.4)
}
_ORIGIN = ("Exception from ", "Check '", "FrontEnd API failed", "Summary:", "To facilitate ")
"""Beginnings of lines of an error that say where in OpenVINO it was found, or what its developers may do."""


class OpenVino(Engine):
    """One compiled model for each number of rows and each call that may go on at once."""

    @staticmethod
    def prepare() -> tuple[Any, Any, Any]:
        """See `Engine.prepare`; returns the package, a core with its plugin for the CPU, what reads ONNX."""
        # without this package it takes a stub of its own, instead of reporting that it was imported
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino  # type: ignore[import-untyped]  # stubs, but no py.typed

        core = openvino.Core()
        core.get_versions("CPU")
        # by name: else all formats that it knows are tried, which takes longer, and who knows what they take
        return openvino, core, openvino.frontend.FrontEndManager().load_by_framework("onnx")

    def __init__(self, content: bytes, role: Role, threads: int, arena: bool) -> None:
        """Read an ONNX file's bytes; raise what OpenVINO raises."""
        from ..artifacts.onnx_check import check_onnx

        self.threads = threads
        with LOADING:
            package, self._core, reader = self.prepare()
            check_onnx(content)
            try:
                self._model = reader.convert(reader.load(BytesIO(content)))
            except Exception as error:
                raise ValueError(_reason(error)) from error
        inputs = {name: tensor for tensor in self._model.inputs for name in tensor.names}
        check_tensors(role, [*inputs], [name for tensor in self._model.outputs for name in tensor.names])
        shape = self._model.inputs[0].partial_shape
        if len(self._model.inputs) != 1 or not len(shape) or not all(n.is_static for n in [*shape][1:]):
            found = [str(tensor.partial_shape) for tensor in self._model.inputs]
            raise ValueError(f"its inputs are of shapes {found}; expected one, known")
        _keep_subtraction(self._model.inputs[0], package.opset13)
        self._outputs = TENSORS[role][1]
        self.shape = tuple(n.get_length() for n in [*shape][1:])
        self._idle: LifoQueue[dict[int, Bound]] = LifoQueue()  # so that one thread finds what it has compiled
        for _ in range(threads):
            self._idle.put({})
        self.sizes = self._sizes()

    def _sizes(self) -> list[int]:
        one = self._of(1)
        shapes = [one.output(name).partial_shape for name in self._outputs]
        if all(shape.is_static for shape in shapes):
            return [math.prod(shape.to_shape()[1:]) for shape in shapes]
        return [output[0].size for output in self.run(np.zeros((1, *self.shape), np.float32))]

    def _of(self, rows: int) -> Any:
        """Return the model as it is for this number of rows."""
        model = self._model.clone()
        model.reshape([rows, *self.shape])
        return model

    def _bound(self, own: dict[int, Bound], rows: int) -> Bound:
        """Return buffers for so many rows, and what runs on them, from those that the caller has taken."""
        if rows not in own:
            with LOADING:
                try:
                    own[rows] = self._bind(self._core.compile_model(self._of(rows), "CPU", _SETTINGS))
                except Exception as error:
                    raise ValueError(_reason(error)) from error
        return own[rows]

    def _bind(self, compiled: Any) -> Bound:
        request = compiled.create_infer_request()
        outputs = [request.get_tensor(name).data for name in self._outputs]
        lock = call_lock()
        # with outputs that are shared it makes no copies to return, which nobody looks at
        infer = partial(request.infer, share_outputs=True)

        def run() -> None:
            with lock:
                infer()

        return Bound(request.get_input_tensor().data, run, outputs, request)

    def run(self, batch: Floats) -> list[Floats]:
        """See `Engine.run`."""
        parts: list[list[Floats]] = []
        own = self._idle.get()
        try:
            start = 0
            while start < len(batch):
                rows = next(n for n in ROWS if n <= len(batch) - start)
                values, run, outputs, _ = self._bound(own, rows)
                values[...] = batch[start : start + rows]
                run()
                parts.append([output.copy() for output in outputs])
                start += rows
        finally:
            self._idle.put(own)
        return parts[0] if len(parts) == 1 else [np.concatenate(part) for part in zip(*parts, strict=True)]

    def bind(self) -> Bound:
        """See `Engine.bind`."""
        own = self._idle.get()
        try:
            request: Any = self._bound(own, 1).owner
            with LOADING:
                return self._bind(request.get_compiled_model())
        finally:
            self._idle.put(own)


def _keep_subtraction(sample: Any, operators: Any) -> None:
    """Have the scaler's offset subtracted from a sample before anything is multiplied.

    OpenVINO would multiply both by the gain and subtract then. Near 101,325 Pa, where a reading is 1 Pa more
    or less, that leaves two digits: the difference of the two is exact, that of their products is not. An
    operator between the steps, which changes nothing, keeps them apart.
    """
    for taken in sample.get_target_inputs():
        node = taken.get_node()
        if (
            node.get_type_name() == "Subtract"
            and node.input_value(1).get_node().get_type_name() == "Constant"
        ):
            readers = node.output(0).get_target_inputs()
            same = operators.prelu(node.output(0), operators.constant(np.ones(1, np.float32)))
            for reader in readers:
                reader.replace_source_output(same.output(0))


def _reason(error: Exception) -> str:
    """Return what an error says of the model, in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(_ORIGIN)]
    return " ".join(said) or one_line(error)
