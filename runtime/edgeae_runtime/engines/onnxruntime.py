"""ONNX Runtime."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..bundle.manifest import TENSORS, Floats
from ..names import Role
from .base import Bound, Engine, check_tensors


def _known(shape: Sequence[object]) -> bool:
    """Whether all but the batch axis are numbers."""
    return all(isinstance(n, int) and n > 0 for n in shape[1:])


def _address(array: Floats) -> int:
    """Return where an array lies in memory; its ``ctypes`` gives the same, and has to be imported."""
    address: int = array.__array_interface__["data"][0]
    return address


_EXTERNAL_DATA = "session.model_external_initializers_file_folder_path"


class OnnxRuntime(Engine):
    """One session, which any number of threads may call."""

    @staticmethod
    def prepare() -> object:
        """See `Engine.prepare`."""
        import onnxruntime

        return onnxruntime

    def __init__(self, content: bytes, role: Role, threads: int, arena: bool) -> None:
        """Load an ONNX file's bytes; raise what ONNX Runtime raises."""
        import onnxruntime

        from ..artifacts.onnx_check import check_onnx

        self.threads = threads
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
        check_tensors(role, [i.name for i in inputs], named)
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
        """See `Engine.run`."""
        # for more than one row this beats bound buffers: it reads the batch where it lies
        results: list[Floats] = self._session.run(self._outputs, {self._input: batch})
        return results

    def bind(self) -> Bound:
        """See `Engine.bind`."""
        row = np.zeros((1, *self.shape), np.float32)
        outputs = self.run(row)  # shows their shapes, which the model may leave open
        binding = self._session.io_binding()
        binding.bind_input(self._input, "cpu", 0, np.float32, row.shape, _address(row))
        for name, array in zip(self._outputs, outputs, strict=True):
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, _address(array))
        run = self._session.run_with_iobinding
        return Bound(row, lambda: run(binding), outputs)
