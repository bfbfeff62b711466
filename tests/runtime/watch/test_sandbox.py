"""Bundles that hang, fill the memory or bring an engine down, with hashes that agree; really run."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeae_runtime import Bundle, BundleError
from edgeae_runtime.watch.sandbox import Sandbox

SCORER = "scorer.float32.onnx"
QUICK = Sandbox(seconds=3, megabytes=256)


def verify(path: Path, sandbox: Sandbox = QUICK) -> str | None:
    return sandbox.verify(path, threading.Event())


def test_a_good_bundle_passes_folder_or_zip(tiny, tiny_zip) -> None:
    for path in (tiny, tiny_zip):
        assert verify(path, Sandbox()) == Bundle(path).digest


def test_one_that_uses_what_it_may_passes(bundle) -> None:
    bundle.burden("MatMul", side=1000)
    assert verify(bundle.path, Sandbox())


def test_one_that_never_ends_is_refused(bundle) -> None:
    bundle.never_end()
    start = time.monotonic()
    with pytest.raises(BundleError, match=r"edgeae: could not be verified within 3 s; .*see swap_seconds$"):
        verify(bundle.path)
    assert time.monotonic() - start < 3 + 5


def test_a_pipe_in_a_files_place_is_refused_at_once(bundle) -> None:
    (bundle.path / "manifest.json").unlink()
    os.mkfifo(bundle.path / "manifest.json")
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read \(it is no regular file\)"):
        verify(bundle.path)


def test_one_that_fills_the_memory_is_refused(bundle) -> None:
    bundle.burden(side=8192)  # the largest tensor that a model may make: as large as the memory allowed here
    with pytest.raises(BundleError, match=r"scorer.float32.onnx: the onnx model cannot be run: .*alloc"):
        verify(bundle.path)


@pytest.mark.parametrize("side", [12_000, 1_000_000])
def test_one_that_plainly_asks_for_too_much_is_refused_before_it_runs(bundle, side) -> None:
    bundle.burden(side=side)
    with pytest.raises(BundleError, match=r"makes a tensor of more than 67108864 values, which is refused"):
        verify(bundle.path)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_golden_inputs_that_fill_the_memory_are_refused(bundle, write) -> None:
    target = bundle.path / "golden.npz"
    write(target, **{**np.load(target), "large": np.zeros(100_000_000, np.float32)})
    bundle.replace("golden.npz", target.read_bytes())
    with pytest.raises(BundleError, match=r"golden"):
        verify(bundle.path)


def test_one_that_brings_its_process_down_is_refused(bundle, monkeypatch, tmp_path) -> None:
    """As a broken engine does: here by a module that the process imports."""
    (tmp_path / "onnxruntime.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BundleError, match=r"pump.edgeae: the process that verified it ended with SIGSEGV, "):
        verify(bundle.path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda b: b.write(SCORER, b.read(SCORER)[:-1] + b"!"), "was altered"),
        (lambda b: b.write("manifest.json", b"{"), "manifest"),
        (lambda b: (b.path / SCORER).unlink(), "is missing"),
        (lambda b: b.replace(SCORER, b.read("scorer.int8.onnx")), "differs by"),
        (lambda b: os.truncate(b.zipped(), 100), "neither a bundle's folder nor a zip file"),
    ],
)
def test_what_is_wrong_is_said_as_by_verify(bundle, damage: Callable[[Any], object], told) -> None:
    damage(bundle)
    zipped = bundle.path.with_suffix(".zip")
    with pytest.raises(BundleError, match=told):
        verify(zipped if zipped.exists() else bundle.path, Sandbox())


def test_it_stops_when_it_is_told_to(bundle) -> None:
    bundle.never_end()
    stop = threading.Event()
    timer = threading.Timer(1.5, stop.set)
    timer.start()
    start = time.monotonic()
    assert Sandbox().verify(bundle.path, stop) is None
    assert time.monotonic() - start < 10
    timer.join()


def test_its_process_ends_by_itself_when_nobody_waits(bundle) -> None:
    bundle.never_end()
    words = [sys.executable, "-m", "edgeae_runtime.watch.sandbox", bundle.path, "auto", "auto", "2", "256"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        assert process.wait(20) < 0
