"""Cold starts: fresh processes, from the first import to the first score."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..bundle.manifest import Floats

COLD_STARTS = 3
"""Cold starts of each candidate, besides a first one that fills the disk's cache."""

_COLD = """
import sys, time
import numpy, edgeae_runtime
bundle, engine, precision, start = sys.argv[1:]
ae = edgeae_runtime.load(bundle, engine=engine, precision=precision)
ae.detect(numpy.frombuffer(sys.stdin.buffer.read(), "f").reshape(ae.manifest.input.shape))
seconds = time.monotonic() - float(start)
with open("/proc/self/status") as file:
    print(seconds, next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) * 1024)
"""


def cold_starts(
    bundle: Path, candidates: Sequence[tuple[str, str]], row: Floats
) -> list[tuple[float | None, int | None, str | None]]:
    """Start fresh processes by turns, which load an engine and precision and score one row.

    Returns:
        Of each candidate the median of the seconds to the score and of the bytes resident then, or why not.
    """
    runs: list[list[list[float] | str]] = [[] for _ in candidates]
    for _ in range(1 + COLD_STARTS):
        for found, pair in zip(runs, candidates, strict=True):
            command = [sys.executable, "-P", "-c", _COLD, str(bundle), *pair, str(time.monotonic())]
            done = subprocess.run(command, input=row.tobytes(), capture_output=True)
            output = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
            found.append(
                output.splitlines()[-1] if done.returncode else list(map(float, done.stdout.split()))
            )
    return [_medians(found[1:]) for found in runs]  # the first fills the disk's cache


def _medians(runs: list[list[float] | str]) -> tuple[float | None, int | None, str | None]:
    for run in runs:
        if isinstance(run, str):
            return None, None, f"a fresh process cannot run it ({run})"
    seconds, resident = np.median(np.array(runs), axis=0)
    return float(seconds), int(resident), None
