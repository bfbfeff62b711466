"""Other processors' Python, under Debian's qemu-user: old x86 ones, and those of 64-bit Arm.

An x86 processor runs this environment's own Python and packages; Arm has Debian's arm64 packages and aarch64
wheels. Neither chroot nor binfmt_misc is needed, so this works in a container; the price is that an emulated
process cannot start another one. ``python emulator.py CPU SCRIPT ...`` runs a script.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CACHE = REPOSITORY / ".cache" / "aarch64"  # built once for all Arm processors
PYTHON = "3.11"  # Debian 12's
LIBRARIES = (
    "libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 liblzma5 libuuid1 "
    f"python{PYTHON}-minimal libpython{PYTHON}-minimal libpython{PYTHON}-stdlib"
)
EXTRAS = ("litert", "mqtt")

X86 = ("Nehalem", "Haswell")
"""SSE4.2 alone, as on an Atom gateway; AVX2 without VNNI, where 16-bit sums of products saturate.

qemu 7.2 has neither AVX-512 nor VNNI."""

# What the kernels of a Pi 3, 4 and 5 and of two servers say. Without asimddp no dot-product kernel is chosen,
# without i8mm none of its kind. The last has SME too, with which qemu 7.2 makes nonsense of LiteRT's int8.
_PI_5 = "aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
ARM = {
    "cortex-a53": {"part": "0xd03", "variant": "0x0", "revision": "4", "features": "crc32 cpuid"},
    "cortex-a72": {"part": "0xd08", "variant": "0x0", "revision": "3", "features": "crc32 cpuid"},
    "cortex-a76": {"part": "0xd0b", "variant": "0x4", "revision": "1", "features": _PI_5},
    "neoverse-n1": {"part": "0xd0c", "variant": "0x3", "revision": "1", "features": f"{_PI_5} ssbs"},
    "max,sme=off": {
        "part": "0xd40",
        "variant": "0x1",
        "revision": "1",
        "features": f"{_PI_5} ssbs sve asimdfhm sve2 svei8mm svebf16 i8mm bf16",
    },
}
CPUS = (*X86, *ARM)
COUNTED = ("cortex-a72", "cortex-a76")
"""A Pi 4's and a Pi 5's: the instructions of a score are counted on these."""


def make() -> Path:
    """Return the folder of one root per processor and of ``site``, the wheels' content; build it if needed.

    It is built under another name and moved into place, so a broken download leaves nothing behind.
    """
    requirements = _requirements()
    constraints = (REPOSITORY / "constraints.txt").read_bytes()
    parts = (Path(__file__).read_bytes(), constraints, repr(requirements).encode())
    made = CACHE / hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one builds, others wait
        if not made.is_dir():
            _build(made, requirements)
    return made


def _build(made: Path, requirements: list[str]) -> None:
    """Build a root under another name and move it into place; remove those of other versions."""
    building = Path(tempfile.mkdtemp(dir=CACHE, prefix="building-"))
    try:
        _unpack_debian(building / "debian")
        _unpack_wheels(building / "site", requirements)
        for cpu in ARM:
            _make_cpu(building, cpu)
        for old in CACHE.glob("[0-9a-f]" * 16):
            shutil.rmtree(old)
        building.rename(made)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def command(
    cpu: str, *arguments: str | Path, paths: tuple[Path, ...] = (), qemu: tuple[str, ...] = ()
) -> list[str]:
    """Return the command that runs Python with these arguments on a processor.

    Args:
        cpu: one of `CPUS`.
        arguments: as after ``python``.
        paths: folders to import from, before that of the wheels.
        qemu: further options of the emulator.
    """
    kind = "x86_64" if cpu in X86 else "aarch64"
    program = shutil.which(f"qemu-{kind}") or shutil.which(f"qemu-{kind}-static")
    if program is None:
        sys.exit(f"qemu-{kind} is missing: apt-get install qemu-user")
    start = [program, *qemu, "-cpu", cpu]
    if cpu in X86:  # qemu does not follow the link that a virtual environment's python is
        python, site = Path(sys.executable).resolve(), Path(sysconfig.get_paths()["purelib"])
    else:
        root = make()
        start += ["-L", str(root / cpu)]
        python, site = root / "debian" / "usr" / "bin" / f"python{PYTHON}", root / "site"
    settings = {
        "PYTHONPATH": ":".join(map(str, (*paths, site))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "ORT_DISABLE_TELEMETRY": "1",
        "LC_ALL": "C.UTF-8",
    }
    given = [word for name, value in settings.items() for word in ("-E", f"{name}={value}")]
    return [*start, *given, str(python), *map(str, arguments)]


def _requirements() -> list[str]:
    """Return what the runtime asks for, with the extras that a device may want."""
    project = tomllib.loads((REPOSITORY / "runtime" / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(name for extra in EXTRAS for name in extras[extra])]


def _unpack_debian(root: Path) -> None:
    """Unpack Debian's arm64 packages, from the mirrors and with the keys of this machine's own apt."""
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        folder = Path(scratch)
        for name in ("lists/partial", "cache/archives/partial", "packages"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        apt = ["apt-get", "-qq", "-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64"]
        apt += ["-o", "APT::Sandbox::User=root", "-o", f"Dir::State::status={folder}/status"]
        apt += [
            "-o",
            "Acquire::Retries=3",
            "-o",
            f"Dir::State::Lists={folder}/lists",
            "-o",
            f"Dir::Cache={folder}/cache",
        ]
        subprocess.run([*apt, "update"], check=True)
        subprocess.run([*apt, "download", *LIBRARIES.split()], check=True, cwd=folder / "packages")
        for package in (folder / "packages").glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, root], check=True)
    if not (root / "lib").exists():  # Debian 12's libc6 still brings a folder of its own
        (root / "lib").symlink_to("usr/lib")


def _unpack_wheels(site: Path, requirements: list[str]) -> None:
    platforms = ["manylinux2014_aarch64", *(f"manylinux_2_{n}_aarch64" for n in range(17, 37))]
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "-d", folder]
        pip += ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"]
        pip += [f"--platform={name}" for name in platforms]
        pip += ["-c", str(REPOSITORY / "constraints.txt")]
        subprocess.run([*pip, *requirements], check=True)
        for wheel in Path(folder).glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(site)


def _make_cpu(folder: Path, cpu: str) -> None:
    """Make the root that a processor's processes see: Debian's, and what the kernel says of the processor.

    qemu-user shows the guest this machine's /proc and /sys where the root has none, and ONNX Runtime crashes
    on an x86 /proc/cpuinfo.
    """
    root = folder / cpu
    (root / "proc").mkdir(parents=True)
    for name in os.listdir(folder / "debian"):
        (root / name).symlink_to(Path("..", "debian", name))
    about = ARM[cpu]
    (root / "proc" / "cpuinfo").write_text(
        "".join(
            f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm {about['features']}\n"
            f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: {about['variant']}\n"
            f"CPU part\t: {about['part']}\nCPU revision\t: {about['revision']}\n\n"
            for core in range(4)
        )
    )
    cores = root / "sys" / "devices" / "system" / "cpu"
    cores.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (cores / name).write_text("0-3\n")


if __name__ == "__main__":
    sys.exit(subprocess.run(command(*sys.argv[1:])).returncode)
