"""A fresh process each: start, import, load, score one row. How long, and how much memory is resident.

``python cold.py CANDIDATE FOLDER`` is such a process: it prints its memory once it has scored.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OURS = {
    "ours_auto": ("auto", "auto"),
    "ours_onnxruntime": ("onnxruntime", "int8"),
    "ours_litert": ("litert", "int8"),
    "ours_openvino": ("openvino", "int8"),
}
PEERS = ("onnxruntime_int8", "litert_int8", "openvino_float32", "tf_function", "keras_call", "keras_predict")


def measure(folder: Path, *, rounds: int) -> dict[str, Any]:
    """Return seconds and bytes per candidate, medians over rounds in which all take turns."""
    names = [*OURS, *PEERS]
    found: dict[str, list[tuple[float, int, int]]] = {name: [] for name in names}
    for name in names:  # once to warm the disk's cache, and for `auto` to find its choice
        _run(name, folder)
    for _ in range(rounds):
        for name in names:
            found[name].append(_run(name, folder))
    return {
        name: {
            "seconds": statistics.median(r[0] for r in runs),
            "fastest": min(r[0] for r in runs),
            "resident": statistics.median(r[1] for r in runs),
            "peak": statistics.median(r[2] for r in runs),
        }
        for name, runs in found.items()
    }


def _run(name: str, folder: Path) -> tuple[float, int, int]:
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, str(HERE / "cold.py"), name, str(folder)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        seconds = time.perf_counter() - start
    if child.returncode:
        raise RuntimeError(f"{name}: the fresh process failed")
    resident, peak = map(int, line.split())
    return seconds, resident, peak


def _score(name: str, folder: Path) -> None:
    """Score the first held-out row; nothing is imported that the candidate does not need."""
    import numpy as np

    row = np.load(folder / "row.npy")
    if name in OURS:
        import edgeae_runtime

        engine, precision = OURS[name]
        ae = edgeae_runtime.load(folder / "bundle.edgeae", engine=engine, precision=precision)  # type: ignore[arg-type]
        ae.detect(row[0])
    else:
        import peers

        peers.load(name, folder, 1).score(row)


def memory() -> tuple[int, int]:
    """Return bytes resident now, and at most."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, most = (1024 * int(fields[key].split()[0]) for key in ("VmRSS", "VmHWM"))
    return now, most


if __name__ == "__main__":
    _score(sys.argv[1], Path(sys.argv[2]))
    print(*memory(), flush=True)
