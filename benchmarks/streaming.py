"""How many readings a second a live series takes, every window scored; more is in stream.py."""

import time
from pathlib import Path
from typing import Any

import models

import edgeae_runtime


def measure(cache: Path, *, quick: bool) -> dict[str, Any]:
    """Push readings one by one; return readings and windows a second for each engine's fastest."""
    readings = models.machine_series(20_000 if quick else 100_000).tolist()
    found = {}
    for name in ("conv1d", "lstm"):
        ae = edgeae_runtime.load(cache / name / "bundle.edgeae")
        stream = ae.stream()
        windows = 0
        start = time.perf_counter()
        for reading in readings:
            windows += stream.push(reading) is not None
        seconds = time.perf_counter() - start
        found[name] = {
            "pair": [ae.engine, ae.precision],
            "stride": ae.manifest.input.stride,
            "readings_per_s": len(readings) / seconds,
            "windows_per_s": windows / seconds,
        }
    return found
