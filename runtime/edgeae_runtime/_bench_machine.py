"""What a machine says of itself, and what a fresh process costs on it."""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np

from ._errors import EngineError
from ._manifest import Floats
from ._tune import _processor

HOT = 80.0
"""Degrees Celsius from which a Raspberry Pi slows down."""

SLOWED = 0.9
"""Below this share of its highest frequency a core is called slow."""

_COLD = """
import sys
import numpy, edgeae_runtime
bundle, engine, precision, row = sys.argv[1:]
edgeae_runtime.load(bundle, engine=engine, precision=precision).detect(numpy.load(row))
print("scored", flush=True)
try:
    with open("/proc/self/status") as file:
        found = dict(line.split(":", 1) for line in file)
except OSError:
    found = {}
print(*(1024 * int(found.get(key, "0 kB").split()[0]) for key in ("VmRSS", "RssAnon")))
"""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What may explain a measurement; None or empty where the machine does not tell."""

    processor: str
    cores: int
    """That this process may use."""
    system: str
    python: str
    load: float | None
    """Processes that were running, mean of a minute, before the measurement."""
    governors: tuple[str, ...]
    """Of CPU frequency, each named once."""
    frequency: float | None
    """Of the slowest core, as a share of its highest."""
    temperature: float | None
    """Of the hottest zone, in degrees Celsius."""
    throttled: int | None
    """The bits of a Raspberry Pi's ``vcgencmd get_throttled``; 0 is fine."""


class Cold(msgspec.Struct, frozen=True, kw_only=True):
    """A fresh process that loads a model and scores one row: medians of some runs."""

    seconds: float
    """From its start to the score."""
    resident: int
    """Bytes in memory after it; 0 where the system does not tell."""
    anonymous: int
    """Of these, bytes that are no file's and no other process's."""


def describe(root: Path = Path("/sys")) -> Machine:
    """Ask the machine.

    Args:
        root: where sysfs is.
    """
    cores = sorted(root.glob("devices/system/cpu/cpu[0-9]*/cpufreq"))
    speeds = [(_number(core / "scaling_cur_freq"), _number(core / "cpuinfo_max_freq")) for core in cores]
    shares = [now / most for now, most in speeds if now and most]
    zones = [_number(zone) for zone in root.glob("class/thermal/thermal_zone*/temp")]
    return Machine(
        processor=_processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        governors=tuple(sorted({_text(core / "scaling_governor") for core in cores} - {""})),
        frequency=min(shares, default=None),
        temperature=max((value / 1000 for value in zones if value is not None), default=None),
        throttled=_throttled(),
    )


def doubts(before: Machine, after: Machine) -> list[str]:
    """Return why a measurement between two descriptions may not be what this machine can do."""
    found = []
    if before.load is not None and before.load > 0.5 * before.cores:
        found.append(f"other programs were running (load {before.load:.1f} on {before.cores} cores)")
    slow = [name for name in after.governors if name not in ("performance", "schedutil")]
    if slow:
        found.append(f"the CPU governor is {', '.join(slow)}; for steady figures set it to performance")
    if "performance" in after.governors and after.frequency is not None and after.frequency < SLOWED:
        found.append(f"a core runs at {after.frequency:.0%} of its highest frequency")
    if after.temperature is not None and after.temperature >= HOT:
        found.append(f"the processor is at {after.temperature:.0f} °C and may slow down")
    found += _throttling(after.throttled or 0)
    return found


def cold_start(
    bundle: Path, candidates: Sequence[tuple[str, str]], row: Floats, *, rounds: int = 3
) -> dict[tuple[str, str], Cold]:
    """Start fresh processes by turns, one for each engine and precision.

    Args:
        bundle: what they load.
        candidates: engines and precisions, all of which run here.
        row: one sample, raw units.
        rounds: processes for each, after one that fills the disk's cache.

    Raises:
        EngineError: a process fails.
    """
    with tempfile.TemporaryDirectory(prefix="edgeae-bench-") as folder:
        file = Path(folder, "row.npy")
        np.save(file, row)
        runs = [[_start(bundle, *pair, file) for pair in candidates] for _ in range(rounds + 1)][1:]
    return {
        pair: Cold(
            seconds=float(np.median([found[0] for found in of_pair])),
            resident=int(np.median([found[1] for found in of_pair])),
            anonymous=int(np.median([found[2] for found in of_pair])),
        )
        for pair, of_pair in zip(candidates, zip(*runs, strict=True), strict=True)
    }


def _start(bundle: Path, engine: str, precision: str, row: Path) -> tuple[float, int, int]:
    command = [sys.executable, "-P", "-c", _COLD, str(bundle), engine, precision, str(row)]
    with tempfile.TemporaryFile("w+") as errors:
        start = perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            seconds = perf_counter() - start
            output = child.stdout.read()
        if child.returncode:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or [f"exit status {child.returncode}"])[-1]
            raise EngineError(f"a fresh process cannot run {engine} {precision} ({last})")
    resident, anonymous = map(int, output.split())
    return seconds, resident, anonymous


def _throttling(bits: int) -> list[str]:
    """Read the firmware's bits: 0 to 3 for now, the same from 16 on for since it was started."""
    names = ("too low a voltage", "a capped frequency", "throttling", "the soft limit of temperature")
    now = [name for bit, name in enumerate(names) if bits >> bit & 1]
    ever = [name for bit, name in enumerate(names) if bits >> (16 + bit) & 1 and name not in now]
    return [f"the firmware reports {name}" for name in now] + [
        f"the firmware has reported {name} since the start" for name in ever
    ]


def _throttled() -> int | None:
    try:
        answer = subprocess.run(
            ["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=5, check=True
        )
        return int(answer.stdout.partition("=")[2], 16)
    except (OSError, ValueError, subprocess.SubprocessError):  # no Raspberry Pi, or not allowed
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None
