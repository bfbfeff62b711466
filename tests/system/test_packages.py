"""What somebody sees whose machine lacks a Debian package that a test wants."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import packages
import pytest

TESTS = Path(__file__).parents[1]
SAMPLE = """
import pytest
from packages import needs

@pytest.fixture(scope="session")
def broker():
    return needs("mosquitto", "openssl")

def test_in_a_fixture(broker): pass
def test_again(broker): pass
def test_by_itself(): needs("chromium")
def test_data(fashion_mnist): pass
def test_without_any(): pass
@pytest.mark.skip(reason="apt is no reason")
def test_other(): pass
"""
LAST = "to run the tests that were skipped: apt install chromium dataset-fashion-mnist mosquitto openssl"


@pytest.fixture
def pytest_says(tmp_path):
    """A function that runs the sample beside our conftest, and returns exit status and lines."""
    for name in ("conftest.py", "packages.py"):
        shutil.copy(TESTS / name, tmp_path)
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\naddopts = --import-mode=importlib -ra\n")

    def run(*options, **settings):
        environment = {name: value for name, value in os.environ.items() if name != "CI"} | settings
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    return run


WITHOUT = {packages.ABSENT: "mosquitto openssl chromium dataset-fashion-mnist"}


@pytest.mark.parametrize("options", [["-q"], ["-n", "2", "--dist", "loadfile"]])
def test_they_are_skipped_and_the_last_line_says_what_to_install(pytest_says, options):
    status, lines = pytest_says(*options, **WITHOUT)
    assert status == 0
    assert lines[-1] == LAST
    assert re.search(r"\b1 passed, 5 skipped\b", lines[-2])
    reasons = {line.partition(": ")[2] for line in lines if line.startswith("SKIPPED")}
    assert {"apt install mosquitto openssl", "apt install chromium"} < reasons


def test_in_ci_they_fail(pytest_says):
    status, lines = pytest_says(CI="true", **WITHOUT)
    assert status == 1
    assert "1 failed, 1 passed, 1 skipped, 3 errors" in lines[-1]
    assert "apt install mosquitto openssl" in lines
    assert not any(line.startswith("to run the tests") for line in lines)


def test_where_all_is_there_nothing_is_said(pytest_says, tmp_path):
    status, lines = pytest_says("-k", "without_any or other")
    assert status == 0 and "1 passed, 1 skipped" in lines[-1]


def test_a_program_counts_as_there_only_if_it_is_in_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(packages.ABSENT, raising=False)
    assert packages.find("chromium") is None
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\n")
    assert packages.find("chromium") is None  # nobody may run it
    program.chmod(0o755)
    assert packages.find("chromium") == str(program)
    monkeypatch.setitem(packages.PACKAGES, "openssl", str(tmp_path / "none"))
    assert packages.find("openssl") is None
    monkeypatch.setenv(packages.ABSENT, "gcc chromium")
    assert packages.find("chromium") is None


@pytest.fixture
def apt(tmp_path):
    """A function that lets tests/packages.py install, with an apt-get that notes what it is told."""
    (tmp_path / "bin").mkdir()
    for name in ("apt-get", "sudo"):
        (tmp_path / "bin" / name).write_text(
            '#!/bin/sh\necho "$0 $*" | sed "s|.*/||" >> apt.log\necho much text; [ "$FAIL" != "${*##* }" ]\n'
        )
        (tmp_path / "bin" / name).chmod(0o755)

    def run(**settings):
        environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", **settings}
        command = [sys.executable, TESTS / "packages.py"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        log = tmp_path / "apt.log"
        return done, log.read_text().splitlines() if log.exists() else []

    return run


def test_apt_installs_what_is_missing_with_a_line_for_each(apt):
    everything = " ".join(packages.PACKAGES)
    done, log = apt(**{packages.ABSENT: everything})
    assert (done.returncode, done.stderr) == (0, "")
    steps = ["update", *(f"install {package}" for package in packages.PACKAGES)]
    assert done.stdout.splitlines() == [f"apt-get {step}" for step in steps]
    assert len(log) == 1 + len(packages.PACKAGES)
    assert all(line.startswith("apt-get " if os.geteuid() == 0 else "sudo ") for line in log)


def test_what_apt_says_is_shown_where_it_fails(apt):
    done, log = apt(**{packages.ABSENT: "gcc mosquitto qemu-user", "FAIL": "mosquitto"})
    assert done.returncode != 0
    assert "much text" in done.stderr
    assert log[-1].endswith("mosquitto")


def test_every_package_that_a_test_wants_is_known_and_every_one_known_is_wanted():
    text = "".join(path.read_text() for path in TESTS.rglob("*.py") if path != Path(__file__))
    calls = re.findall(r"\bneeds\(([^)*]+)\)", text)
    assert {name for call in calls for name in re.findall('"(.+?)"', call)} == set(packages.PACKAGES)
