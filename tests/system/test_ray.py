"""Scoring on a local Ray cluster of two machines with one worker each."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgeae_runtime

BUNDLE = Path(__file__).parents[1] / "runtime" / "tiny.edgeae"
COMMAND = [str(Path(sys.executable).with_name("edgeae")), "score", str(BUNDLE)]
ROWS = 2_000_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """A cluster of a head without CPUs and two machines of one CPU; their programs' process numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        memory = {"object_store_memory": 200 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **memory})
        for _ in range(2):
            cluster.add_node(num_cpus=1, **memory)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def readings(tmp_path_factory):
    """Two files of readings in a folder."""
    folder = tmp_path_factory.mktemp("readings")
    golden = np.load(BUNDLE / "golden.npz")["input"]
    noise = np.random.default_rng(0).normal(1, 0.01, (ROWS, golden.shape[1]))
    rows = np.float32(np.resize(golden, noise.shape) * noise)
    np.save(folder / "a.npy", rows)
    np.save(folder / "b.npy", rows[:40_000][::-1])
    return folder


def score(*arguments, cwd):
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def workers(cluster):
    """The numbers of the processes that have a bundle loaded."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_text()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
        if name.startswith("ray::MapWorker") and parent in raylets:
            found.append(int(folder.name))
    return found


def test_a_killed_worker_changes_no_bit_nor_their_order(cluster, readings, tmp_path):
    score(readings / "a.npy", "-o", "local.csv", cwd=tmp_path)
    whole = (tmp_path / "local.csv").read_bytes()
    growing = tmp_path / ".ray.csv.partial"
    words = [*COMMAND, str(readings / "a.npy"), "-o", "ray.csv", "--on", "ray"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not (growing.exists() and growing.stat().st_size) and time.monotonic() < until:
            time.sleep(0.01)
        found = workers(cluster)
        os.kill(found[0], signal.SIGKILL)
        assert growing.stat().st_size < len(whole) / 2
        assert process.wait(120) == 0, process.stderr.read()
    assert len(found) == 2
    assert (tmp_path / "ray.csv").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local.csv", "ray.csv"]


def test_several_files_are_the_same_as_without_ray_and_done_ones_are_skipped(cluster, readings, tmp_path):
    files = sorted(readings.glob("*.npy"))
    score(*files, "-o", "local", "--format", "npy", cwd=tmp_path)
    score(*files, "-o", "ray", "--format", "npy", "--on", "ray", cwd=tmp_path)
    for path in (tmp_path / "local").iterdir():
        assert (tmp_path / "ray" / path.name).read_bytes() == path.read_bytes()
    expected = edgeae_runtime.load(BUNDLE).score(np.load(files[1]))
    np.testing.assert_array_equal(np.load(tmp_path / "ray" / "b.npy"), expected)


def test_an_error_on_a_worker_is_one_line_here(cluster, tmp_path):
    np.save(tmp_path / "x.npy", np.full((20, 6), np.nan))
    words = [*COMMAND, "x.npy", "--on", "ray"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {tmp_path}/x.npy: row 1 holds nan; every value must be finite\n"
