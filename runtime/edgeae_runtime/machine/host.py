"""The machine that a benchmark ran on, and what makes its figures doubtful."""

import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import processor

THROTTLE_CELSIUS = 80.0
"""Temperature in °C from which a Raspberry Pi slows down."""


def describe(root: Path = Path("/sys")) -> dict[str, Any]:
    """Return what may explain a measurement: processor, load and so on; see docs/bench.md.

    Args:
        root: where sysfs is.
    """
    governors = {path.read_text().strip() for path in root.glob("devices/system/cpu/cpu*/cpufreq/*_governor")}
    zones: list[float] = []
    for path in root.glob("class/thermal/thermal_zone*/temp"):
        with suppress(OSError, ValueError):  # some are switched off
            zones.append(int(path.read_text()) / 1000)
    throttled = None
    with suppress(OSError, ValueError, subprocess.SubprocessError):  # no Raspberry Pi, or not allowed
        output = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, timeout=5).stdout
        throttled = int(output.partition(b"=")[2], 16)
    return {
        "processor": processor.make() or platform.machine(),
        "kind": processor.kind(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.platform()}, Python {platform.python_version()}",
        "load": os.getloadavg()[0],
        "governors": sorted(governors),
        "temperature": max(zones, default=None),
        "throttled": throttled,
    }


def caveats(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return why a measurement between two descriptions may not be what this machine can do."""
    found = []
    if before["load"] > 0.5 * before["cores"]:
        found.append(f"other programs were running (load {before['load']:.1f} on {before['cores']} cores)")
    if slow := [name for name in after["governors"] if name not in ("performance", "schedutil")]:
        found.append(f"the CPU governor is {', '.join(slow)}; for steady figures set it to performance")
    if (after["temperature"] or 0.0) >= THROTTLE_CELSIUS:
        found.append(f"the processor is at {after['temperature']:.0f} °C and may slow down")
    if after["throttled"]:
        text = "too low a voltage or throttling, now or since its start"
        found.append(f"the firmware reports {text} (vcgencmd get_throttled: {after['throttled']:#x})")
    return found
