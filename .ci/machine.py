"""Say in one line why an environment cannot be made on this machine, before anything is downloaded.

``make`` runs this with any Python 3, on the standard library alone; it prints nothing where all is well.
"""

import os
import platform
import shutil
import sys

PYTHONS = ((3, 11), (3, 13))
GLIBC = (2, 28)  # which pyarrow's and SciPy's wheels ask for
MEMORY = 3.5  # GB; what a machine with 4 GB calls its own
DISK = 5.0  # GB; the larger environment and what pip keeps of it
ELSEWHERE = "train on another machine; what it exports runs here (README, 'Five minutes to a Pi')"


def read(path):
    """Return a file's text, or none."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def memory():
    """Return this machine's memory in GB, or a container's limit where that is lower; None if unknown."""
    lines = read("/proc/meminfo").splitlines()
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        found += [int(word) for word in read(path).split() if word.isdigit()]
    return min(found) / 1e9 if found else None


def processor():
    """Return what is wrong with the processor, or None."""
    machine, bits = platform.machine(), 64 if sys.maxsize > 2**32 else 32
    if bits == 32 or machine not in ("x86_64", "aarch64"):
        return f"TensorFlow needs 64-bit x86 or Arm, and this is a {bits}-bit Python on {machine}"
    flags = [line.split() for line in read("/proc/cpuinfo").splitlines() if line.startswith("flags")]
    if machine == "x86_64" and flags and "avx" not in flags[0]:
        return "TensorFlow needs a processor with AVX, and this one has none"
    return None


def obstacle(folder):
    """Return in one line why no environment can be made in a folder, and the remedy, or None."""
    python = sys.version_info[:2]
    if not PYTHONS[0] <= python <= PYTHONS[1]:
        found = f"this is Python {python[0]}.{python[1]}"
        return f"edgeae needs Python 3.11 to 3.13, and {found}: name another, as in make PYTHON=python3.11"
    if sys.platform != "linux":
        return f"edgeae needs Linux, and this is {sys.platform}: use a virtual machine or a container"
    wrong = processor()
    if wrong:
        return f"{wrong}: {ELSEWHERE}"
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split(".")[:2])) < GLIBC:
        found = f"{library or 'another C library'} {version}".strip()
        return f"TensorFlow needs glibc 2.28 or newer, and this is {found}: use a newer Linux, or a container"
    gigabytes = memory()
    if gigabytes is not None and gigabytes < MEMORY:
        return f"training needs 4 GB of memory, and this machine has {gigabytes:.1f} GB: {ELSEWHERE}"
    free = shutil.disk_usage(folder).free / 1e9
    if free < DISK:
        return (
            f"the environment needs {DISK:.0f} GB of disk, and {free:.1f} GB are free in {folder}: make room"
        )
    try:
        import ensurepip  # noqa: F401  # Debian keeps it in a package of its own
        import venv  # noqa: F401
    except ImportError:
        return "this Python cannot make an environment: apt install python3-venv"
    return None


if __name__ == "__main__":
    sys.exit(obstacle(os.getcwd()))
