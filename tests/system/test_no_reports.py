"""Nothing that ours imports leaves a trace of itself at home, as libraries do that report to their makers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "runtime" / "tiny.edgeae"
SWITCHES = (
    "ORT_DISABLE_TELEMETRY",
    "CI",
    "TF_BUILD",
    "JENKINS_URL",
)  # set by make, by our conftest or by a CI
OURS = (".cache/edgeae/tune/",)  # docs/engines.md says so
DEVICE_ID = ".cache/Microsoft/DeveloperTools/.onnxruntime/deviceid"


@pytest.fixture
def left(tmp_path):
    """A function that runs a script with a home of its own and returns the names of the files there."""
    home = tmp_path / "home"
    home.mkdir()

    def run(script, **settings):
        hidden = (*SWITCHES, "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "EDGEAE_TUNE")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {
            "HOME": str(home),
            "https_proxy": "http://127.0.0.1:9",
            **settings,
        }  # and none is sent
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return {str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()}

    return run


def test_a_first_score_with_auto_leaves_its_choice_and_nothing_else(left):
    script = f"""
import numpy, edgeae_runtime
rows = numpy.load({str(TINY / "golden.npz")!r})["input"]
assert edgeae_runtime.load({str(TINY)!r}).score(rows).shape == (len(rows),)
assert edgeae_runtime.load({str(TINY)!r}, engine="onnxruntime").score(rows).shape == (len(rows),)
"""
    files = left(script)
    assert files and all(name.startswith(OURS) for name in files)


def test_openvino_as_an_engine_reports_nothing_in_this_process_or_in_another(left):
    """In every way to it: a score, verify, and the process in which watch tries a new bundle."""
    script = f"""
import pathlib, sys, threading
import edgeae_runtime
from edgeae_runtime.watch.sandbox import Sandbox
ae = edgeae_runtime.load({str(TINY)!r}, engine="openvino", precision="int8")
assert ae.score([1.0] * 6) > 0 and "openvino" in sys.modules
checks = edgeae_runtime.verify(edgeae_runtime.Bundle(pathlib.Path({str(TINY)!r})))
assert "openvino" in [check.engine for check in checks]
assert Sandbox("openvino", "int8").verify(pathlib.Path({str(TINY)!r}), threading.Event())
"""
    assert left(script) == set()


@pytest.mark.parametrize("package", ["edgeae_runtime", "edgeae_export", "edgeae", "edgeae_runtime.udf"])
def test_after_an_import_of_ours_onnxruntime_reports_nothing(package, left):
    assert left(f"import {package}, onnxruntime") == set()


def test_nor_does_a_process_that_ours_starts(left):
    child = "subprocess.run([sys.executable, '-c', 'import onnxruntime'], check=True)"
    assert left(f"import edgeae, subprocess, sys; {child}") == set()


def test_who_wants_the_reports_gets_them(left):
    assert DEVICE_ID in left("import edgeae, onnxruntime", ORT_DISABLE_TELEMETRY="0")


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_peer_by_hand_reports_nothing(name, left, tmp_path):
    for role in ("encoder", "decoder"):  # not by hand; here only who runs it counts
        shutil.copy(TINY / f"{role}.float32.onnx", tmp_path / f"hand.{role}.float32.onnx")
    (tmp_path / "scaler.json").write_text('{"offset": 0.0, "gain": 1.0}')
    script = f"""
import pathlib, sys, numpy
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
import peers
peer = peers.load("{name}_float32", pathlib.Path({str(tmp_path)!r}), 1)
assert "{name}" in sys.modules
if "{name}" == "openvino":
    rows = numpy.load({str(TINY / "golden.npz")!r})["input"]
    assert len(peer.score(rows)[1]) == len(rows)
"""
    assert left(script) == set()


def test_openvino_would_report_by_itself(left):
    """Else the tests above show nothing."""
    assert "intel/openvino_ga_cid" in left("import openvino")
