"""The Debian packages that some tests want: a test without its package is skipped, in CI it fails.

``python tests/packages.py`` installs those that are missing, as ``make test APT=1`` does. It runs before
there is an environment, on the standard library alone.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "chromium": "chromium",
    "dataset-fashion-mnist": "/usr/share/datasets/fashion-mnist",
    "g++": "g++",
    "gcc": "gcc",
    "mosquitto": "mosquitto",
    "nlohmann-json3-dev": "/usr/include/nlohmann/json.hpp",
    "openssl": "openssl",
    "qemu-user": "qemu-aarch64",
}
"""Of each the program, or else the path, that is there once it is installed."""

REASON = "apt install "
"""How the reason of a skip begins; the rest of it is the package."""

ABSENT = "EDGEAE_TEST_WITHOUT"
"""The name of a variable: packages, separated by spaces, that the tests are to take for missing."""


def find(package):
    """Return the path of a package's program, file or folder, or None where it is not installed."""
    if package in os.environ.get(ABSENT, "").split():
        return None
    wanted = PACKAGES[package]
    if wanted.startswith("/"):
        return wanted if os.path.exists(wanted) else None
    # where Debian keeps servers is not in every user's PATH
    return shutil.which(wanted, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


def needs(*packages):
    """Return the path of the first package's program, file or folder; skip the test where one is missing.

    In CI, where all are installed, a missing one fails the test.
    """
    missing = [package for package in packages if find(package) is None]
    if missing:
        import pytest

        if in_ci():
            pytest.fail(REASON + " ".join(missing), pytrace=False)
        pytest.skip(REASON + " ".join(missing))
    return Path(find(packages[0]))


def in_ci():
    """Tell whether this is a CI's run, which sets CI=true."""
    return os.environ.get("CI", "").lower() in ("1", "true")


def install():
    """Install what is missing, with a line for each package; return an exit status."""
    missing = [package for package in PACKAGES if find(package) is None]
    if not missing:
        return 0
    apt = ["apt-get", "-qq", "-o", "Acquire::Retries=3"]
    if shutil.which("apt-get") is None:
        print(f"APT=1 wants Debian's apt-get; missing here: {' '.join(missing)}", file=sys.stderr)
        return 1
    if os.geteuid() != 0:
        apt = ["sudo", "--preserve-env=DEBIAN_FRONTEND", *apt]
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    steps = [["update"], *(["install", "--no-install-recommends", "-y", package] for package in missing)]
    for step in steps:
        print("apt-get", *(word for word in step if not word.startswith("-")), flush=True)
        done = subprocess.run([*apt, *step], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            print(done.stdout, file=sys.stderr, end="")
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(install())
