"""Everything is built once: bundles, the runtime's wheel, and what each processor makes of them.

`make test-processors` runs these tests; `make test` does not, since they want qemu and download a userland.
"""

import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from packages import needs

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # importlib mode does not

import emulator  # noqa: E402  # needs the line above


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """The folder of one small bundle of each kind, of candidates, and data for them; see bundles.py."""
    needs("qemu-user")  # before anything is made for it
    folder = tmp_path_factory.mktemp("bundles")
    run = (
        "import sys; sys.path.insert(0, sys.argv[3]); import bundles; folder, first, _ = sys.argv[1:]\n"
        "for kind in list(bundles.KINDS)[int(first)::2]: bundles.make(kind, folder)\n"
        "bundles.make_candidates(list(bundles.CANDIDATES)[int(first)], folder)"
    )
    half = [[sys.executable, "-W", "ignore", "-c", run, folder, str(i), HERE] for i in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda command: _run(command, cwd=folder), half):
            assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def device(tmp_path_factory):
    """A function that runs Python on a processor, with the wheel unpacked; it returns the process."""
    needs("qemu-user")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder]
    done = _run([*pip, emulator.REPOSITORY / "runtime"], cwd=folder)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("edgeae_runtime-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")

    def run(cpu, *arguments, **settings):
        return _run(emulator.command(cpu, *arguments, paths=(folder / "site",)), cwd=folder, **settings)

    return run


@pytest.fixture(scope="session")
def results(bundles, device, tmp_path_factory):
    """What guest.py wrote on this machine and on each processor, by name."""
    folder = tmp_path_factory.mktemp("results")
    guest = HERE / "guest.py"

    def work(name):
        out = folder / name
        out.mkdir()
        if name == "here":
            return _run([sys.executable, guest, bundles, out], cwd=out)
        return device(name, guest, bundles, out)

    names = ["here", *emulator.CPUS]
    with ThreadPoolExecutor(2) as pool:
        for name, done in zip(names, pool.map(work, names), strict=True):
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    return {name: dict(np.load(folder / name / "results.npz")) for name in names}


def _run(command, *, cwd, timeout=600):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["XDG_CACHE_HOME"] = str(cwd / "cache")  # so that no earlier run has told auto what to take
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )
