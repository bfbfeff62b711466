"""`make` on machines that will not do, what it installs, and README's commands."""

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from edgeae_runtime.cli.main import main as root

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def machine(monkeypatch):
    """The module .ci/machine.py on a machine that will do; its files, by path, can be changed."""
    spec = importlib.util.spec_from_file_location("machine", ROOT / ".ci" / "machine.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    files = {"/proc/cpuinfo": "flags\t\t: fpu avx avx2\n", "/proc/meminfo": "MemTotal: 3880000 kB\n"}
    monkeypatch.setattr(module, "read", lambda path: files.get(path, ""))
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(module.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=9e9))
    return SimpleNamespace(module=module, files=files, obstacle=lambda: module.obstacle("/here"))


@pytest.mark.parametrize("kind", ["x86_64", "aarch64"])
def test_4_gb_and_a_usual_processor_will_do(machine, monkeypatch, kind):
    monkeypatch.setattr(platform, "machine", lambda: kind)
    if kind == "aarch64":
        machine.files["/proc/cpuinfo"] = "Features\t: fp asimd\n"
    assert machine.obstacle() is None


FILES = {
    "has none": ("/proc/cpuinfo", "flags\t\t: fpu sse4_2 noavx\n"),
    "has 2.0 GB": ("/proc/meminfo", "MemTotal: 2000000 kB\n"),
    "has 1.5 GB": ("/sys/fs/cgroup/memory.max", "1500000000\n"),
    "has 1.6 GB": ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1600000000\n"),
}


@pytest.mark.parametrize("told", FILES)
def test_a_lack_of_avx_or_memory_is_told_with_the_remedy(machine, told):
    path, text = FILES[told]
    machine.files[path] = text
    line = machine.obstacle()
    assert told in line and "Five minutes to a Pi" in line and "\n" not in line


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("sys.version_info", (3, 10, 2), "this is Python 3.10: name another"),
        ("sys.version_info", (3, 14, 0), "this is Python 3.14: name another"),
        ("sys.platform", "darwin", "this is darwin: use"),
        ("sys.maxsize", 2**31 - 1, "a 32-bit Python on x86_64: train"),
        ("platform.machine", lambda: "armv7l", "on armv7l: train"),
        ("platform.machine", lambda: "riscv64", "on riscv64: train"),
        ("platform.libc_ver", lambda: ("", ""), "this is another C library: use"),
        ("platform.libc_ver", lambda: ("glibc", "2.17"), "this is glibc 2.17: use"),
        (
            "shutil.disk_usage",
            lambda folder: SimpleNamespace(free=1e9),
            "1.0 GB are free in /here",
        ),
    ],
)
def test_what_else_will_not_do_is_told(machine, monkeypatch, name, value, told):
    owner, _, attribute = name.partition(".")
    owner = getattr(machine.module, owner)
    if owner is sys:
        owner = machine.module.sys = SimpleNamespace(
            version_info=sys.version_info, platform="linux", maxsize=sys.maxsize
        )
    monkeypatch.setattr(owner, attribute, value)
    line = machine.obstacle()
    assert told in line and "\n" not in line


def test_a_python_without_venv_is_told_which_package(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    assert machine.obstacle().endswith("apt install python3-venv")


def test_nothing_is_refused_for_what_cannot_be_read(machine):
    machine.files.clear()
    assert machine.obstacle() is None


PRETEND = """#!{python}
import platform, runpy, sys
platform.machine = lambda: "armv7l"
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_says_it_before_it_makes_or_downloads_anything(target, tmp_path):
    clone = tmp_path / "clone"
    for name in ("Makefile", "constraints.txt", "pyproject.toml", ".ci/machine.py", "runtime/pyproject.toml"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    python = tmp_path / "python3"
    python.write_text(PRETEND.format(python=sys.executable))
    python.chmod(0o755)
    before = sorted(clone.rglob("*"))
    done = make(target, f"PYTHON={python}", cwd=clone)
    told = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make")]
    assert done.returncode != 0
    assert len(told) == 1 and "on armv7l: train on another machine" in told[0]
    assert sorted(clone.rglob("*")) == before


def make(*arguments, cwd):
    # what make hands down to the make in it: it would wait for jobs of the outer one, or install packages
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment = {name: value for name, value in inherited.items() if name != "APT"}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )


def asked_for(name, extra, seen):
    """All distributions that an installed one asks for, with one extra or none."""
    from packaging.requirements import Requirement

    for text in requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for more in requirement.extras or ("",):
                key = (requirement.name.lower().replace("_", "-"), more)
                if key not in seen:
                    seen.add(key)
                    asked_for(*key, seen)
    return {name for name, _ in seen}


def test_the_demo_installs_no_tools_and_no_clusters():
    text = make("-n", "-B", "demo", cwd=ROOT).stdout
    assert re.findall(r"-e \S+", text) == ["-e './runtime[litert]'", "-e ."]
    needed = asked_for("edgeae", "", set()) | asked_for("edgeae-runtime", "litert", set())
    assert {"tensorflow", "tf2onnx", "onnxruntime", "scikit-learn", "matplotlib", "pyarrow"} <= needed
    others = {"ray", "dask", "pandas", "openvino", "mypy", "pytest", "ruff", "hypothesis", "paho-mqtt"}
    assert needed & others == set()


def test_the_wheels_are_built_without_the_large_environment():
    text = make("-n", "-B", "wheels", cwd=ROOT).stdout
    assert ".cache/build/bin/python -m pip wheel" in text
    assert "./runtime" in text and ".venv" not in text


def test_documents_name_the_targets_that_there_are():
    targets = set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md", "docs/raspberry-pi.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, re.MULTILINE)) - targets == set()


def test_readmes_commands_are_found_and_have_the_options_that_it_uses():
    """After the line that makes `edgeae` known, and each as a shell takes it."""
    blocks = [block.removeprefix("\n") for block in README.split("```")[1::2]]
    (workstation,) = [block for block in blocks if "edgeae train" in block]
    assert workstation.startswith(". .venv/bin/activate\n")
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("edgeae ")]
    assert {"train", "export", "score", "verify", "watch"} <= {words[1] for words in commands}
    for _, name, *words in commands:
        command = root.get_command(click.Context(root), name)
        known = {option for parameter in command.params for option in parameter.opts}
        assert [word for word in words if word.startswith("-") and word not in known] == []
