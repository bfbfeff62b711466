import os

# Two workers share two processors: were each to start two threads as well, as OpenMP does for k-means and
# linear algebra, these would spend twice the work's time waiting for each other. Read when numpy is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import atexit
import gc
import gzip
import shutil
import tempfile

import numpy as np
import pytest
from packages import REASON, needs

# a test may import onnxruntime before edgeae_runtime switches its reports off
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# `auto` means the same in every test, however busy the machine; and nobody's cache is touched
os.environ["EDGEAE_TUNE"] = "off"
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="edgeae-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# TensorFlow and its companions are half a million objects, which the collector would look through hundreds of
# times, a fifth of all the time: none of them is ever garbage, so from the first test on it passes them over.
gc.disable()


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


last_line = []
# Registered before xdist starts its workers, so called after they have ended: only then comes out what
# TensorFlow has said in them, and would stand below.
atexit.register(lambda: print(*last_line, end="\n" * len(last_line)))


def pytest_unconfigure(config):
    """Say last, below pytest's own last line, what would run the tests that a package is missing for."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):  # xdist's workers tell the one that tells the user
        return
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in reporter.stats.get("skipped", [])}
    wanted = {name for reason in reasons if reason.startswith(REASON) for name in reason.split()[2:]}
    if wanted:
        last_line.append(f"to run the tests that were skipped: {REASON}{' '.join(sorted(wanted))}")


@pytest.fixture(scope="session")
def fashion_mnist():
    """Training and test images, uint8 (n, 28, 28), read without the code under test."""
    folder = needs("dataset-fashion-mnist")
    images = []
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        path = folder / f"{part}-images-idx3-ubyte.gz"
        pixels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
        images.append(pixels.reshape(count, 28, 28))
    return tuple(images)


@pytest.fixture(scope="session")
def other_units():
    """A function that gives each column of a table a unit of its own, 0.01 to 200, and an offset."""

    def convert(table):
        rng = np.random.default_rng(7)
        factors = np.exp(rng.uniform(np.log(0.01), np.log(200), table.shape[1]))
        return np.float32(table * factors + rng.uniform(-100, 100, table.shape[1]))

    return convert
