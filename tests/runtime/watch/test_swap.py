import itertools
import json
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from watching import COLUMNS, one_by_one, parse_metrics, wait_for

import edgeae_runtime
from edgeae_runtime.watch.events import Event, Swapped
from edgeae_runtime.watch.swap import poll, signature


def scaled(source: Path, target: Path, factor: float) -> Path:
    """A copy whose manifest has another threshold: another bundle, which gives the same errors."""
    shutil.copytree(source, target)
    manifest = json.loads((target / "manifest.json").read_bytes())
    for artifact in manifest["artifacts"]:
        artifact["threshold"]["value"] *= factor
    (target / "manifest.json").write_text(json.dumps(manifest))
    (target / "manifest.sha256").unlink()  # which tells of a change by hand
    return target


@pytest.mark.slow
def test_bundles_are_swapped_under_load_and_bad_ones_refused(start, bundle, own, rows, tmp_path) -> None:
    running = start(bundle.path, "--metrics-port", 0)
    done = threading.Event()
    fed = 0

    def load() -> None:
        nonlocal fed
        while not done.is_set():
            running.feed(rows[fed % 1000 : fed % 1000 + 20])
            fed += 20
            time.sleep(0.01)

    feeder = threading.Thread(target=load)
    feeder.start()
    try:
        running.has(100)
        fresh = scaled(bundle.path, tmp_path / "2.edgeae", 2)
        bundle.path.rename(tmp_path / "old")  # by rename, as `new_folder` does it
        fresh.rename(bundle.path)
        running.says("goes on with the new bundle")
        good = {file.name: file.read_bytes() for file in bundle.path.iterdir()}
        scorer = good["scorer.float32.onnx"]
        bundle.write("scorer.float32.onnx", scorer[:-1] + bytes([scorer[-1] ^ 1]))
        running.says("refused, the old one goes on", 1)
        bundle.write("scorer.float32.onnx", scorer)
        bundle.write("manifest.json", good["manifest.json"][:100])
        running.says("refused, the old one goes on", 2)
        other = json.loads(good["manifest.json"])
        other["input"]["features"] = [f"{name}2" for name in COLUMNS]
        bundle.write("manifest.json", json.dumps(other).encode())
        running.says("its features is ('temperature2'", 1)
        final = scaled(tmp_path / "old", tmp_path / "4.edgeae", 4)
        for file in sorted(final.iterdir()):  # copied over file by file, slowly
            bundle.write(file.name, file.read_bytes())
            time.sleep(0.1)
        running.says("goes on with the new bundle", 2)
        before = fed
        wait_for(lambda: fed > before, "the load")
    finally:
        done.set()
        feeder.join()
    running.has(fed)
    assert running.end() == 0
    expected = np.tile(one_by_one(own, rows), fed // 1000 + 1)[:fed]
    np.testing.assert_array_equal(np.float32(running.errors), expected)
    log = running.err.read_text()
    assert log.count("refused, the old one goes on") == 3
    thresholds = [json.loads(line)["threshold"] for line in running.out.read_text().splitlines()]
    steps = [thresholds[0]] + [b for a, b in itertools.pairwise(thresholds) if a != b]
    base = own.threshold.value
    assert steps == pytest.approx([base, 2 * base, 4 * base])


def reading_files(content: bytes) -> bytes:
    """An ONNX model with a constant whose values are another file's."""
    model = onnx.load_from_string(content)
    stolen = model.graph.initializer.add(name="stolen", data_type=1, dims=[2], data_location=1)
    stolen.external_data.add(key="location", value="secret")
    return model.SerializeToString()


def ending_processes(content: bytes) -> bytes:
    """A TFLite model whose signature is of a subgraph that is not there."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    model.signatureDefs[0].subgraphIndex = 7
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_hostile_bundles_with_right_hashes_are_refused_and_the_old_one_goes_on(
    start, bundle, own, rows
) -> None:
    running = start(bundle.path)
    running.feed(rows[:1])
    running.has(1)
    bundle.replace("scorer.float32.onnx", reading_files(bundle.read("scorer.float32.onnx")))
    running.says(
        "scorer.float32.onnx: onnxruntime cannot load the scorer: the ONNX model has a constant 'stolen'"
    )
    bundle.replace("encoder.int8.tflite", ending_processes(bundle.read("encoder.int8.tflite")))
    bundle.keep("tflite")
    running.says("encoder.int8.tflite: litert cannot load the encoder: the TFLite model is refused")
    (bundle.path / "manifest.json").unlink()
    os.mkfifo(bundle.path / "manifest.json")
    running.says("manifest.json cannot be read (it is no regular file)")
    running.feed(rows[1:3])
    running.has(3)
    assert running.end() == 0
    np.testing.assert_array_equal(np.float32(running.errors), one_by_one(own, rows[:3]))
    assert running.err.read_text().count("refused, the old one goes on") == 3


def test_an_open_window_survives_a_swap(start, bundle, tmp_path, rows) -> None:
    with bundle.manifest() as manifest:
        manifest["input"].update(shape=[3, 2], features=None, window=3, stride=3)
    series = rows[:10].reshape(-1, 2)
    ae = edgeae_runtime.load(bundle.path, engine="onnxruntime", precision="float32")
    expected = one_by_one(ae, series.reshape(-1, 3, 2))
    running = start(bundle.path)
    running.feed(series[:8])
    running.has(2)
    fresh = scaled(bundle.path, tmp_path / "2.edgeae", 2)
    bundle.path.rename(tmp_path / "old")
    fresh.rename(bundle.path)
    running.says("goes on with the new bundle")
    running.feed(series[8:])
    running.has(10)
    np.testing.assert_array_equal(np.float32(running.errors), expected)
    assert running.end() == 0


def test_a_recalibrated_threshold_is_used_as_soon_as_it_is_there(start, bundle, own, rows) -> None:
    artifact = "scorer.float32.onnx"
    edgeae_runtime.write_threshold(
        bundle.path, artifact, edgeae_runtime.new_threshold(own.score(rows), quantile=0.5)
    )
    running = start(bundle.path)
    running.feed(rows[:1])
    running.has(1)
    new = edgeae_runtime.new_threshold(own.score(rows), quantile=0.9)
    edgeae_runtime.write_threshold(bundle.path, artifact, new)
    running.says("goes on with the new threshold")
    running.feed(rows[:1])
    running.has(2)
    found = [json.loads(line)["threshold"] for line in running.out.read_text().splitlines()]
    assert found == [np.quantile(own.score(rows).astype(float), q) for q in (0.5, 0.9)]


def test_the_threshold_of_a_refused_bundle_is_not_used(start, bundle, own, rows, tmp_path) -> None:
    running = start(bundle.path)
    running.feed(rows[:1])
    running.has(1)
    shutil.copytree(bundle.path, tmp_path / "other")
    bundle.path.rename(tmp_path / "old")
    (tmp_path / "other").rename(bundle.path)
    with bundle.manifest() as manifest:
        manifest["input"]["features"] = [f"{name}2" for name in COLUMNS]
    running.says("refused, the old one goes on")
    new = edgeae_runtime.new_threshold(own.score(rows), quantile=0.5)
    edgeae_runtime.write_threshold(bundle.path, "scorer.float32.onnx", new)
    running.says("was made for another bundle")
    running.feed(rows[:1])
    running.has(2)
    found = [json.loads(line)["threshold"] for line in running.out.read_text().splitlines()]
    assert found == [own.threshold.value] * 2


def test_a_bundle_replaced_while_the_watch_starts_is_noticed(bundle, tmp_path) -> None:
    seen = signature(bundle.path)
    old = edgeae_runtime.load(bundle.path)
    fresh = scaled(bundle.path, tmp_path / "2.edgeae", 2)
    bundle.path.rename(tmp_path / "old")
    fresh.rename(bundle.path)
    told: list[Event] = []
    stop = threading.Event()

    def post(event: Event) -> None:
        told.append(event)
        stop.set()

    more = {"load": edgeae_runtime.load, "threshold": lambda ae: ae.threshold, "post": post, "stop": stop}
    thread = threading.Thread(target=poll, args=(bundle.path, old, seen), kwargs=more)
    thread.start()
    thread.join(10)
    stop.set()
    (event,) = told
    assert isinstance(event, Swapped) and event.threshold.value == 2 * old.threshold.value


def test_a_bundle_that_hangs_or_fills_the_memory_does_not_keep_the_next_one_out(
    start, bundle, tmp_path, own, rows
) -> None:
    running = start(bundle.path, "--swap-seconds", 3, "--swap-memory", 200, "--metrics-port", 0)
    running.feed(rows[:1])
    running.has(1)
    fed = 1
    for number, spoil in enumerate((type(bundle).never_end, lambda bad: bad.burden(side=1_000_000)), 1):
        bad = type(bundle)(shutil.copytree(bundle.path, tmp_path / f"{number}.edgeae"))
        spoil(bad)
        bundle.path.rename(tmp_path / f"old{number}")
        bad.path.rename(bundle.path)
        running.says("refused, the old one goes on", number)
        running.feed(rows[fed : fed + 5])
        fed += 5
        running.has(fed)
        bundle.path.rename(tmp_path / f"bad{number}")
        (tmp_path / f"old{number}").rename(bundle.path)
    fresh = scaled(bundle.path, tmp_path / "good.edgeae", 2)
    bundle.path.rename(tmp_path / "old")
    fresh.rename(bundle.path)
    running.says("goes on with the new bundle")
    running.feed(rows[fed : fed + 5])
    running.has(fed + 5)
    address, *lines = running.err.read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("could not be verified within 3 s; if it is a good one, see --swap-seconds")
    with urllib.request.urlopen(address.split(" on ")[1], timeout=5) as answer:
        found = parse_metrics(answer.read().decode())
    assert (found["edgeae_refused_total"], found["edgeae_swaps_total"]) == (2, 1)
    np.testing.assert_array_equal(np.float32(running.errors), one_by_one(own, rows[: fed + 5]))
    assert running.end() == 0


def test_a_stop_does_not_wait_for_a_bundle_that_hangs(start, bundle, rows) -> None:
    running = start(bundle.path)
    running.feed(rows[:1])
    running.has(1)
    bundle.never_end()
    children = Path(f"/proc/{running.process.pid}/task")

    def child() -> list[str]:
        return [pid for task in children.iterdir() for pid in (task / "children").read_text().split()]

    wait_for(lambda: bool(child()), "the process that verifies")
    (pid,) = child()
    assert running.end() == 0
    assert not Path(f"/proc/{pid}/cmdline").exists()
