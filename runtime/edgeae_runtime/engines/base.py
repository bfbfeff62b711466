"""What every inference engine does: load an artifact's bytes, run it on rows.

No engine gets threads of its own: they would cost a small model more than they give, and would not survive a
fork. Many rows are shared out among Python's threads; the engines let go of its lock while they compute.
"""

from collections.abc import Callable, Collection
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..bundle.manifest import TENSORS, Floats
from ..errors import EngineError
from ..names import Format, Precision, Role

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

BATCH_ROWS = 128
"""Rows given to an engine at once: enough to be efficient, little enough for a small device's caches."""

RowRunner: TypeAlias = Callable[[NDArray[Any]], tuple[Floats, np.float32]]
"""Takes one float32 sample of any memory layout; returns its embedding and error, the caller's own."""


class Bound(NamedTuple):
    """Fixed buffers: write the input, run, read the outputs."""

    input: Floats
    run: Callable[[], object]
    outputs: list[Floats]
    owner: object = None
    """Objects that must live as long as the buffers are used."""


class Engine:
    """A loaded artifact. Any number of threads may call it; what it returns is the caller's own."""

    shape: tuple[int, ...]
    """Shape of one input row, without the batch axis."""

    sizes: list[int]
    """Number of values of each of the role's outputs for one row."""

    threads: int
    """Calls of ``run`` that may go on at once."""

    def __init__(self, content: bytes, role: Role, threads: int, arena: bool) -> None:
        """Load an artifact's bytes; see `load_engine`. Raise what the package raises."""
        raise NotImplementedError

    @staticmethod
    def prepare() -> object:
        """Load the package and its native libraries, which stay as long as what is returned.

        Raises:
            ImportError: it is not installed.
        """
        raise NotImplementedError

    def run(self, batch: Floats) -> list[Floats]:
        """Return the role's outputs (see `TENSORS`) for a C-contiguous float32 (n, *shape), n >= 1."""
        raise NotImplementedError

    def bind(self) -> Bound:
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
        raise EngineError(f"the {file_format} model cannot be run: {one_line(error)}") from error
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def check_tensors(role: Role, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Raise ValueError where a model lacks one of its role's tensors."""
    wanted, wanted_outputs = TENSORS[role]
    if wanted not in inputs or not {*wanted_outputs} <= {*outputs}:
        found = ", ".join([*inputs, *outputs])
        raise ValueError(f"its tensors are {found}; expected {', '.join([wanted, *wanted_outputs])}")


def one_line(error: Exception) -> str:
    """Return an error's text without its line breaks."""
    return " ".join(str(error).split())
