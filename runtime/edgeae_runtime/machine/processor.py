"""The processor of this machine: its make, and how it multiplies int8."""

from pathlib import Path

_MAKE = ("model name", "CPU implementer", "CPU variant", "CPU part", "CPU revision")
_KINDS = {
    "flags": ("amx_int8", "avx512_vnni", "avx_vnni", "avx512bw", "avx2", "avx", "sse4_2"),
    "Features": ("i8mm", "asimddp", "asimd"),
}
"""By the line of /proc/cpuinfo, on x86 and on Arm: what int8 speed depends on, the fastest first."""


def make(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the first core's make as the kernel reports it; "" where it reports none."""
    found = _first_core(cpuinfo)
    return " ".join(found[name] for name in sorted(found.keys() & _MAKE))


def kind(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the best instructions for int8 that the first core has, as the kernel names them.

    ``avx512_vnni``, ``avx_vnni``, ``avx2`` and so on; ``i8mm``, ``asimddp`` or ``asimd`` on 64-bit Arm; ""
    where it is none of them.
    """
    found = _first_core(cpuinfo)
    for line, kinds in _KINDS.items():
        has = found.get(line, "").split()
        for name in kinds:
            if name in has:
                return name
    return ""


def _first_core(cpuinfo: Path) -> dict[str, str]:
    try:
        with open(cpuinfo, "rb") as file:
            text = file.read(8192).decode("ascii", "replace")
    except OSError:
        return {}
    pairs = [line.partition(":") for line in text.partition("\n\n")[0].splitlines()]
    return {name.strip(): value.strip() for name, _, value in pairs}
