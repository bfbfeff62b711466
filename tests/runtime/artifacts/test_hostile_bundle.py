"""Bundles whose hashes are right, made to harm the device that reads them."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgeae_runtime
from edgeae_runtime import EdgeaeError
from edgeae_runtime.artifacts.onnx_check import check_onnx

SECRET = b"a secret of 48 bytes, which spell twelve floats."
SCORER = Path(__file__).parents[1] / "tiny.edgeae" / "scorer.float32.onnx"


@pytest.fixture
def working_directory(tmp_path, monkeypatch):
    """The process stands in a folder with a file that is none of the bundle's business."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "secret").write_bytes(SECRET)
    monkeypatch.chdir(folder)
    return folder


def told(use) -> str:
    """The one line of an error that a user can act on."""
    with pytest.raises(EdgeaeError) as caught:
        use()
    text = str(caught.value)
    assert "\n" not in text
    return text


def external(name: str, shape: list[int], location: str) -> TensorProto:
    """A float32 constant whose values are a file's."""
    tensor = TensorProto(name=name, data_type=1, dims=shape, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def spelling(location: str = "secret") -> onnx.ModelProto:
    """A scorer whose embedding is a file's content, as an attacker would make it."""
    model = onnx.load_from_string(SCORER.read_bytes())
    graph = model.graph
    for node in graph.node:
        node.output[:] = [f"old_{name}" if name == "embedding" else name for name in node.output]
        node.input[:] = [f"old_{name}" if name == "embedding" else name for name in node.input]
    first = numpy_helper.from_array(np.float32([1, 0, 0, 0, 0, 0]), "first")
    graph.initializer.extend([external("stolen", [6, 2], location), first])
    graph.node.append(helper.make_node("Sub", ["input", "input"], ["nothing"]))
    graph.node.append(helper.make_node("Add", ["nothing", "first"], ["which"]))
    graph.node.append(helper.make_node("MatMul", ["which", "stolen"], ["embedding"]))
    return model


def inside(node: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph([node], "g", [], [helper.make_tensor_value_info("x", 1, [2])])


def constant_node(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["x"], value=tensor)


def model_of(*nodes: onnx.NodeProto, **fields) -> bytes:
    graph = helper.make_graph(nodes, "g", [], [])
    for name, values in fields.items():
        getattr(graph, name).extend(values)
    return helper.make_model(graph).SerializeToString()


# --- reading the device's files ------------------------------------------------------------------


def test_the_attack_works_where_nothing_is_checked(working_directory) -> None:
    """Else the tests below would show nothing."""
    import onnxruntime

    session = onnxruntime.InferenceSession(spelling().SerializeToString())
    embedding, _ = session.run(["embedding", "error"], {"input": np.zeros((1, 6), np.float32)})
    assert embedding.tobytes() == SECRET[:8]


@pytest.mark.parametrize("location", ["secret", "./secret", "../home/secret", "/etc/hostname"])
def test_a_model_with_data_in_another_file_is_refused(
    bundle, working_directory, refused, onnx_engine, location
) -> None:
    bundle.replace("scorer.float32.onnx", spelling(location).SerializeToString())
    autoencoder = edgeae_runtime.load(bundle.path, engine=onnx_engine, precision="float32")
    reason = "the ONNX model has a constant 'stolen' in another file, which is refused"
    assert reason in told(lambda: autoencoder.detect(np.zeros(6, np.float32)))
    checks = {check.artifact: check for check in edgeae_runtime.verify(edgeae_runtime.Bundle(bundle.path))}
    assert checks["scorer.float32.onnx"].status == "failed"
    assert reason in checks["scorer.float32.onnx"].detail
    assert "scorer.float32.onnx" in refused("verify", bundle.path, status=3)


def test_even_unchecked_a_session_finds_no_file(working_directory, monkeypatch) -> None:
    """The second fence holds where the first one, the walk over the model, has a hole."""
    from edgeae_runtime.artifacts import onnx_check
    from edgeae_runtime.engines.registry import load_engine

    monkeypatch.setattr(onnx_check, "check_onnx", lambda content: None)
    assert "cannot load the scorer" in told(
        lambda: load_engine("onnxruntime", spelling().SerializeToString(), "scorer", 1)
    )


EXTERNAL = external("w", [2], "secret")
HARMLESS = numpy_helper.from_array(np.zeros(2, np.float32))
SPARSE = onnx.SparseTensorProto(values=external("w", [1], "secret"), dims=[2])
REFUSED = {
    "a constant": (model_of(initializer=[EXTERNAL]), "a constant 'w' in another file"),
    "a node's constant": (model_of(constant_node(EXTERNAL)), "an operator 'Constant' with a constant in"),
    "a list of them": (
        model_of(helper.make_node("Any", [], ["x"], many=[HARMLESS, EXTERNAL])),
        "with a constant in another file",
    ),
    "a sparse constant": (model_of(sparse_initializer=[SPARSE]), "sparse constants"),
    "a node's sparse constant": (
        model_of(helper.make_node("Constant", [], ["x"], sparse_value=SPARSE)),
        "with a sparse constant",
    ),
    "If": (
        model_of(helper.make_node("If", ["c"], ["x"], then_branch=inside(constant_node(EXTERNAL)))),
        "an operator 'If' with a graph inside",
    ),
    "Loop": (
        model_of(helper.make_node("Loop", ["n"], ["x"], body=inside(constant_node(HARMLESS)))),
        "an operator 'Loop' with a graph inside",
    ),
    "graphs": (
        model_of(helper.make_node("Any", [], ["x"], many=[inside(constant_node(EXTERNAL))])),
        "with a graph inside",
    ),
    "a domain": (model_of(helper.make_node("Run", [], ["x"], domain="com.evil")), "of domain 'com.evil'"),
    "a contributed operator": (
        model_of(helper.make_node("EPContext", [], ["x"], domain="com.microsoft")),
        "an operator 'EPContext' of domain 'com.microsoft'",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_every_way_out_of_a_model_is_refused(kind) -> None:
    content, reason = REFUSED[kind]
    with pytest.raises(ValueError, match=reason):
        check_onnx(content)


@pytest.mark.parametrize("operator", ["Expand", "Tile", "Pad", "ConstantOfShape", "Resize"])
@pytest.mark.parametrize("as_node", [False, True], ids=["initializer", "node"])
def test_sizes_that_make_a_tensor_of_terabytes_are_refused(operator, as_node) -> None:
    sizes = numpy_helper.from_array(np.int64([2**20, 1, 2**20]), "sizes")
    before = {"ConstantOfShape": [], "Resize": ["x", "", ""]}.get(operator, ["x"])
    node = helper.make_node(operator, [*before, "sizes"], ["y"])
    reason = f"an operator '{operator}' that makes a tensor of more than 67108864 values"
    constant = helper.make_node("Constant", [], ["sizes"], value=sizes)
    content = model_of(constant, node) if as_node else model_of(node, initializer=[sizes])
    with pytest.raises(ValueError, match=reason):
        check_onnx(content)


def range_of(*values):
    tensors = [numpy_helper.from_array(np.float32(value)) for value in values]
    constants = [
        helper.make_node("Constant", [], [name], value=t) for name, t in zip("abc", tensors, strict=True)
    ]
    return [*constants, helper.make_node("Range", ["a", "b", "c"], ["y"])]


HUGE = {
    "numbers in an attribute": [
        helper.make_node("Constant", [], ["s"], value_ints=[2**28]),
        helper.make_node("Expand", ["x", "s"], ["y"]),
    ],
    "one number in an attribute": [
        helper.make_node("Constant", [], ["s"], value_int=2**28),
        helper.make_node("ConstantOfShape", ["s"], ["y"]),
    ],
    "a constant by another name": [
        helper.make_node("Constant", [], ["a"], value_ints=[2**28]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("Cast", ["b"], ["s"], to=7),
        helper.make_node("Tile", ["x", "s"], ["y"]),
    ],
    "small steps": range_of(0, 1e6, 1e-6),
    "no step": range_of(0, 1, 0),
    "old padding": [helper.make_node("Pad", ["x"], ["y"], pads=[0, 2**28])],
    "old scales": [helper.make_node("Upsample", ["x"], ["y"], scales=[1.0, 2.0**28])],
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_huge_tensor_is_refused_however_its_size_is_written(kind) -> None:
    with pytest.raises(ValueError, match="that makes a tensor of more than 67108864 values"):
        check_onnx(model_of(*HUGE[kind]))


def test_functions_and_training_are_refused() -> None:
    for field, reason in (("functions", "functions of its own"), ("training_info", "a part for training")):
        model = onnx.ModelProto()
        getattr(model, field).add()
        with pytest.raises(ValueError, match=reason):
            check_onnx(model.SerializeToString())


def test_a_file_is_read_as_onnx_alone(onnx_engine) -> None:
    """ONNX Runtime would read bytes with its own format's mark as that, unchecked."""
    from edgeae_runtime.engines.registry import load_engine

    polyglot = b"\x08\x08\x12\x06ORTM12" + SCORER.read_bytes()
    assert polyglot[4:8] == b"ORTM"
    check_onnx(polyglot)
    assert load_engine(onnx_engine, polyglot, "scorer", 1).shape == (6,)


# --- sizes that are believed -----------------------------------------------------------------------


def refused_by_all(path: Path, command) -> str:
    """What `load`, `verify` and the command say of a bundle: the same line."""
    text = told(lambda: edgeae_runtime.load(path))
    assert told(lambda: edgeae_runtime.verify(edgeae_runtime.Bundle(path))) == text
    assert command("verify", path) == text
    return text.removeprefix(f"{path}: ")


MEGABYTES = 300
LIMITED = f"""
import resource, sys
import edgeae_runtime
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    edgeae_runtime.verify(edgeae_runtime.Bundle(sys.argv[1]))
except edgeae_runtime.BundleError as error:
    print(error)
assert peak() - before < {MEGABYTES // 3} * 1024, peak() - before
"""


def refused_in_little_memory(path: Path) -> str:
    """What is said of a bundle, by a process that must not grow while it reads it, nor hang."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.removeprefix(f"{path}: ").rstrip("\n")


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256", "golden.npz"])
def test_a_file_of_gigabytes_is_not_read(bundle, name) -> None:
    with open(bundle.path / name, "ab") as file:
        file.truncate(MEGABYTES * 10**6)  # zeros that take no room on the disk
    told = refused_in_little_memory(bundle.path)
    assert re.search(r"has 300000000 bytes, at most \d+ are allowed|it has 300,000,000 bytes", told)


def test_an_artifact_of_gigabytes_is_not_read(bundle) -> None:
    size = (bundle.path / "scorer.int8.onnx").stat().st_size
    with open(bundle.path / "scorer.int8.onnx", "ab") as file:
        file.truncate(MEGABYTES * 10**6)
    assert refused_in_little_memory(bundle.path) == ""
    checks = {c.artifact: c.detail for c in edgeae_runtime.verify(edgeae_runtime.Bundle(bundle.path))}
    assert f"has 300000000 bytes, the manifest says {size}" in checks["scorer.int8.onnx"]


@pytest.mark.parametrize("name", ["manifest.json", "golden.npz", "scorer.int8.onnx"])
def test_a_small_zip_file_that_becomes_gigabytes_is_refused(bundle, name) -> None:
    """Whether it says so or not."""
    packed = bundle.path.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w") as archive:
        for file in bundle.path.iterdir():
            if file.name != name:
                archive.write(file, file.name)
        with archive.open(zipfile.ZipInfo(name), "w") as entry:
            entry._compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
            entry._zinfo.compress_type = zipfile.ZIP_DEFLATED
            for _ in range(MEGABYTES):
                entry.write(bytes(10**6))
    assert packed.stat().st_size < 2e6
    said = refused_in_little_memory(packed)
    if name == "scorer.int8.onnx":
        opened = edgeae_runtime.Bundle(packed)
        said = str({c.artifact: c.detail for c in edgeae_runtime.verify(opened)}[name])
    assert f"{name} cannot be read (it is compressed; zip the bundle without compression (zip -0))" in said


def test_a_zip_file_whose_directory_would_fill_the_memory_is_refused(tmp_path) -> None:
    packed = tmp_path / "pump.edgeae"
    entry = b"PK\x01\x02" + bytes(42)
    end = b"PK\x05\x06" + bytes(8) + (len(entry) * 10**6).to_bytes(4, "little") + bytes(6)
    packed.write_bytes(entry * 10**6 + end)
    assert "directory is larger than a bundle's can be" in refused_in_little_memory(packed)


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (300_000_000,)])
def test_golden_arrays_that_say_they_are_large_are_refused(bundle, golden, shape) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in golden.items():
            entry = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                entry,
                {"descr": "<f4", "fortran_order": False, "shape": shape if name == "input" else array.shape},
            )
            archive.writestr(f"{name}.npy", entry.getvalue() + np.float32(array).tobytes())
    bundle.replace("golden.npz", stream.getvalue())
    assert "the golden inputs cannot be read (" in refused_in_little_memory(bundle.path)


def test_golden_entries_that_lie_over_one_another_are_refused(bundle) -> None:
    """Each entry of the directory costs 50 bytes and gives the whole file again."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        array = io.BytesIO()
        np.save(array, np.zeros(10**6, np.float32))
        archive.writestr("input.npy", array.getvalue())
        first = archive.filelist[0]
        archive.filelist += [first] * 200
    bundle.replace("golden.npz", stream.getvalue())
    assert "the golden inputs cannot be read (" in refused_in_little_memory(bundle.path)


def test_golden_arrays_of_objects_are_refused(bundle) -> None:
    stream = io.BytesIO()
    np.savez(stream, input=np.array([{}], dtype=object))
    bundle.replace("golden.npz", stream.getvalue())
    assert "an array holds object, expected numbers" in refused_in_little_memory(bundle.path)


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "link"])
def test_a_pipe_or_link_in_a_bundle_is_refused(bundle, refused, name, make) -> None:
    (bundle.path / name).unlink()
    make(bundle.path / name)
    refused_in_little_memory(bundle.path)  # in a process that may hang
    assert re.match(
        rf"{name} cannot be read \(it is (a link|no regular file)", refused_by_all(bundle.path, refused)
    )


def test_an_artifact_that_is_a_link_is_refused_though_what_it_leads_to_is_right(bundle, tmp_path) -> None:
    whole = bundle.path / "scorer.int8.onnx"
    whole.rename(tmp_path / "elsewhere")
    whole.symlink_to(tmp_path / "elsewhere")
    ae = edgeae_runtime.load(bundle.path, engine="onnxruntime", precision="int8")
    assert "it is a link; a bundle holds its files itself" in told(lambda: ae.score(np.zeros(6, np.float32)))


def test_a_bundle_may_be_reached_by_a_link(bundle, tmp_path, rows) -> None:
    for path in (bundle.path, bundle.zipped()):
        link = tmp_path / f"{path.suffix[1:]}-link"
        link.symlink_to(path)
        assert edgeae_runtime.load(link, engine="onnxruntime").score(rows[:3]).shape == (3,)


@pytest.mark.parametrize("device", ["pipe", "/dev/zero"])
def test_a_pipe_or_device_in_the_place_of_a_bundle_is_refused(tmp_path, device) -> None:
    path = Path(device)
    if device == "pipe":
        path = tmp_path / "pump.edgeae"
        os.mkfifo(path)
    assert refused_in_little_memory(path).startswith("is neither a bundle's folder nor a zip file")


# --- a manifest that cannot be meant ---------------------------------------------------------------


def threshold(bundle) -> str:
    """The float model's, as it is written in the manifest."""
    return json.dumps(edgeae_runtime.Bundle(bundle.path).manifest.reference.value)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_a_manifest_changed_by_hand_is_noticed(bundle, refused, packed) -> None:
    text, value = bundle.read("manifest.json").decode(), threshold(bundle)
    assert value in text
    (bundle.path / "manifest.json").write_text(text.replace(value, f"0.99{value[4:]}", 1))
    path = bundle.zipped() if packed else bundle.path
    assert re.fullmatch(
        r"manifest\.json was altered \(SHA-256 [0-9a-f]{12}…, manifest\.sha256 says [0-9a-f]{12}…\); "
        "copy the bundle again",
        refused_by_all(path, refused),
    )


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\xff\n" * 40])
def test_a_digest_that_is_none_is_refused(bundle, refused, content) -> None:
    bundle.write("manifest.sha256", content)
    said = refused_by_all(bundle.path, refused)
    assert said.startswith("manifest.sha256 cannot be read (it does not begin with a SHA-256)")


def test_a_bundle_of_an_older_export_is_read_and_verify_says_what_it_lacks(bundle, run) -> None:
    (bundle.path / "manifest.sha256").unlink()
    assert not edgeae_runtime.Bundle(bundle.path).sealed
    assert run("verify", bundle.path).stderr == (
        f"{bundle.path}: has no manifest.sha256, so a change of its manifest would not be noticed\n"
    )


def test_verify_is_silent_of_a_whole_bundle(tiny, run) -> None:
    assert edgeae_runtime.Bundle(tiny).sealed
    assert run("verify", tiny).stderr == ""


FIRST = ("artifacts", 0)
NONSENSE = {
    "latent size": (("latent_size",), [2**62, 0, -1]),
    "shape": (("input", "shape"), [[-8], [0], [], [2**62], [2**13] * 4, [1] * 9, [3, -2]]),
    "features": (("input", "features"), [[], ["one"], ["x"] * 7]),
    "window": (("input", "window"), [-1, 0, 10**12]),
    "stride": (("input", "stride"), [-1, 0, 10**18]),
    "format": (("format_version",), [0, -1]),
    "threshold": ((*FIRST, "threshold", "value"), [-1, 1e308, -1e-9]),
    "reference": (("reference", "value"), [-1, 1e308]),
    "threshold's rows": ((*FIRST, "threshold", "rows"), [0, -1, 2**60]),
    "quantile": (
        (*FIRST, "threshold", "quantiles"),
        [{"2": 1.0}, {"-0.1": 1.0}, {"nan": 1.0}, {"half": 1.0}, {"0.5": -1}],
    ),
    "falling quantiles": ((*FIRST, "threshold", "quantiles"), [{"0.5": 2.0, "0.9": 1.0}]),
    "bytes": ((*FIRST, "bytes"), [-1, 2**31]),
    "digest": ((*FIRST, "sha256"), ["", "x" * 64, "a\nb"]),
    "opset": ((*FIRST, "opset"), [0, -1, 2**62]),
    "share": ((*FIRST, "fidelity", "false_alarms"), [-0.1, 1.1]),
    "reference share": ((*FIRST, "fidelity", "false_alarms_reference"), [-0.1, 1e300]),
    "correlation": ((*FIRST, "fidelity", "rank_correlation"), [-1.1, 1.1]),
    "cosine": ((*FIRST, "fidelity", "embedding_cosine"), [-1.1, 2]),
    "moves": ((*FIRST, "fidelity", "error_median"), [-0.1, 1e308]),
    "fidelity's rows": ((*FIRST, "fidelity", "rows"), [0, -5]),
    "file name": ((*FIRST, "path"), ["", "a\nb", "\x1b[2J", "a/b", ".."]),
}


@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, (_, values) in NONSENSE.items() for value in values]
)
def test_numbers_that_cannot_be_meant_are_refused(bundle, refused, kind, value) -> None:
    (*parents, last), _ = NONSENSE[kind]
    with bundle.manifest() as manifest:
        place = manifest
        for key in parents:
            place = place[key]
        place[last] = value
    assert refused_by_all(bundle.path, refused).startswith("manifest.json is not valid (")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999"])
def test_numbers_that_json_lacks_are_refused(bundle, refused, number) -> None:
    text, value = bundle.read("manifest.json").decode(), threshold(bundle)
    assert value in text
    bundle.write("manifest.json", text.replace(value, number, 1).encode())
    assert refused_by_all(bundle.path, refused).startswith("manifest.json is not valid (")


def test_an_artifact_listed_twice_is_refused(bundle, refused) -> None:
    with bundle.manifest() as manifest:
        manifest["artifacts"].append(manifest["artifacts"][0])
    assert "is listed twice" in refused_by_all(bundle.path, refused)


def test_an_embedding_of_another_size_than_the_graphs_is_refused(bundle, rows, engine) -> None:
    with bundle.manifest() as manifest:
        manifest["latent_size"] = 3
    ae = edgeae_runtime.load(bundle.path, engine=engine, precision="int8")
    for verb in (ae.embed, ae.detect):
        assert "gives 2 values for the embedding, the manifest says 3" in told(
            lambda verb=verb: verb(rows[0])
        )
    checks = edgeae_runtime.verify(edgeae_runtime.Bundle(bundle.path))
    assert {check.status for check in checks} == {"failed"}


def test_a_golden_file_without_rows_is_told(bundle, refused) -> None:
    bundle.replace_golden(input=np.zeros((0, 6), np.float32))
    assert "artifacts failed" in refused("verify", bundle.path, status=3)
