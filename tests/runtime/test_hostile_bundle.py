"""Bundles whose hashes are right, made to harm the device that reads them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgeae_runtime
from edgeae_runtime import EdgeaeError
from edgeae_runtime._onnx_check import check_onnx

SECRET = b"a secret of 48 bytes, which spell twelve floats."
SCORER = Path(__file__).with_name("tiny.edgeae") / "scorer.float32.onnx"


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
def test_a_model_with_data_in_another_file_is_refused(bundle, working_directory, refused, location) -> None:
    bundle.replace("scorer.float32.onnx", spelling(location).SerializeToString())
    autoencoder = edgeae_runtime.load(bundle.path, engine="onnxruntime", precision="float32")
    reason = "the ONNX model has a constant 'stolen' in another file, which is refused"
    assert reason in told(lambda: autoencoder.detect(np.zeros(6, np.float32)))
    checks = {check.artifact: check for check in edgeae_runtime.verify(edgeae_runtime.Bundle(bundle.path))}
    assert checks["scorer.float32.onnx"].status == "failed"
    assert reason in checks["scorer.float32.onnx"].detail
    assert "scorer.float32.onnx" in refused("verify", bundle.path, status=3)


def test_even_unchecked_a_session_finds_no_file(working_directory, monkeypatch) -> None:
    """The second fence holds where the first one, the walk over the model, has a hole."""
    from edgeae_runtime import _onnx_check
    from edgeae_runtime._engines import load_engine

    monkeypatch.setattr(_onnx_check, "check_onnx", lambda content: None)
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


def test_functions_and_training_are_refused() -> None:
    for field, reason in (("functions", "functions of its own"), ("training_info", "a part for training")):
        model = onnx.ModelProto()
        getattr(model, field).add()
        with pytest.raises(ValueError, match=reason):
            check_onnx(model.SerializeToString())


def test_a_file_is_read_as_onnx_alone() -> None:
    """ONNX Runtime would read bytes with its own format's mark as that, unchecked."""
    from edgeae_runtime._engines import load_engine

    polyglot = b"\x08\x08\x12\x06ORTM12" + SCORER.read_bytes()
    assert polyglot[4:8] == b"ORTM"
    check_onnx(polyglot)
    assert load_engine("onnxruntime", polyglot, "scorer", 1).shape == (6,)
