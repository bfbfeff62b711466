"""Every number of a TFLite model is changed, one at a time, and no change ends the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[1] / "runtime"
ALL = sorted(path.name for path in (RUNTIME / "tiny.edgeae").glob("*.tflite"))


@pytest.mark.parametrize("name", ALL if os.environ.get("EDGEAE_FULL") else ["encoder.int8.tflite"])
def test_no_changed_number_ends_the_process(name):
    command = [sys.executable, RUNTIME / "fuzz_tflite.py", RUNTIME / "tiny.edgeae" / name]
    done = subprocess.run(
        [*command, name.partition(".")[0], "1", "0"], capture_output=True, text=True, timeout=900, check=False
    )
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"{last} {done.stderr[-1000:]}"
    assert '"field refused"' in last[0]
