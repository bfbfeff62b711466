import time

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeae_runtime.artifacts.onnx_file import MAX_FIELDS, MAX_VALUES, OnnxModel, read_model
from edgeae_runtime.artifacts.onnx_tensor import Tensor

NAMES = [
    f"{role}.{precision}.onnx"
    for role in ("encoder", "decoder", "scorer")
    for precision in ("float32", "int8")
]
KINDS = [
    *("float16", "float32", "float64", "bool", "int8", "uint8", "int16", "uint16"),
    *("int32", "uint32", "int64", "uint64"),
]


def bare(**fields) -> OnnxModel:
    """Read a model of no nodes with these fields of its graph."""
    graph = helper.make_graph([], "g", [], [])
    for name, values in fields.items():
        getattr(graph, name).extend(values)
    return read_model(onnx.ModelProto(graph=graph).SerializeToString())


def same_tensor(found: Tensor, wanted: TensorProto) -> None:
    assert (found.name, found.dims, found.data_type) == (wanted.name, tuple(wanted.dims), wanted.data_type)
    external = bool(wanted.external_data) or wanted.data_location == TensorProto.EXTERNAL
    assert found.has_external_data == external
    try:
        array = numpy_helper.to_array(wanted)
    except Exception:  # onnx raises a dozen unrelated types
        return
    try:
        read = found.array()
    except ValueError:  # it is stricter: values left over, several fields of them
        return
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    assert read.tobytes() == array.tobytes()


def same_attribute(found: object, wanted: onnx.AttributeProto) -> None:
    if isinstance(found, Tensor):
        same_tensor(found, wanted.t)
    elif isinstance(found, tuple) and found and isinstance(found[0], Tensor):
        for one, other in zip(found, wanted.tensors, strict=True):
            same_tensor(one, other)
    elif found is not None and wanted.type:
        value = helper.get_attribute_value(wanted)
        value = tuple(value) if isinstance(found, tuple) else value
        np.testing.assert_equal(found, value)  # NaN is NaN


def same_model(content: bytes, wanted: onnx.ModelProto) -> None:
    found = read_model(content)
    graph = wanted.graph
    assert found.opsets == {opset.domain: opset.version for opset in wanted.opset_import}
    assert found.inputs == [value.name for value in graph.input]
    assert found.outputs == [value.name for value in graph.output]
    assert list(found.initializers) == [constant.name for constant in graph.initializer]
    for constant in graph.initializer:
        same_tensor(found.initializers[constant.name], constant)
    assert found.has_graph == wanted.HasField("graph")
    assert found.has_functions == bool(wanted.functions)
    assert found.has_training == bool(wanted.training_info)
    assert found.has_sparse == bool(graph.sparse_initializer)
    for node, other in zip(found.nodes, graph.node, strict=True):
        assert (node.op_type, node.domain, node.name) == (other.op_type, other.domain, other.name)
        assert (node.inputs, node.outputs) == (list(other.input), list(other.output))
        assert list(node.attributes) == [attribute.name for attribute in other.attribute]
        assert node.has_subgraph >= any(a.HasField("g") or len(a.graphs) > 0 for a in other.attribute)
        assert node.has_external_data == any(
            t.external_data or t.data_location for a in other.attribute for t in (a.t, *a.tensors)
        )
        for attribute in other.attribute:
            same_attribute(node.attributes[attribute.name], attribute)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_read_as_the_onnx_package_reads_it(tiny, name) -> None:
    content = (tiny / name).read_bytes()
    same_model(content, onnx.load_from_string(content))
    assert all(t.array().size for t in read_model(content).initializers.values())  # none was left out


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_a_damaged_model_is_refused_or_read_as_the_onnx_package_reads_it(tiny, data) -> None:
    damaged = bytearray((tiny / data.draw(st.sampled_from(NAMES))).read_bytes())
    # most bytes are in names and weights: those at the front, and small ones, are tags and lengths
    tags = [place for place, byte in enumerate(damaged) if byte < 0x30]
    places = st.sampled_from(tags) | st.integers(0, len(damaged) - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)):
        damaged[place] = byte
    try:
        found = read_model(bytes(damaged))
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert isinstance(found, OnnxModel)
    try:
        wanted = onnx.load_from_string(bytes(damaged))
        str(wanted)  # text that is not UTF-8 shows now
    except (DecodeError, UnicodeDecodeError):
        return
    same_model(bytes(damaged), wanted)


@settings(deadline=None)
@given(cut=st.integers(0, 10_000), name=st.sampled_from(NAMES))
def test_a_model_cut_anywhere_is_refused_or_whole_up_to_there(tiny, cut, name) -> None:
    content = (tiny / name).read_bytes()[:cut]
    try:
        found = read_model(content)
    except ValueError:
        return
    same_model(content, onnx.load_from_string(content))
    assert found.has_graph <= bool(content)


@given(content=st.binary(max_size=60))
def test_garbage_is_refused_or_holds_nothing(content) -> None:
    try:
        read_model(content)
    except ValueError as error:
        assert "ONNX model" in str(error)


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("kind", KINDS)
def test_constants_of_every_type(kind, raw) -> None:
    random = np.random.default_rng(1)
    drawn = random.standard_normal((3, 5)) if "float" in kind else random.integers(-(2**62), 2**62, (3, 5))
    values = drawn.astype(kind)
    if raw:
        constant = numpy_helper.from_array(values, "c")
    else:
        code = helper.np_dtype_to_tensor_dtype(values.dtype)
        constant = helper.make_tensor("c", code, values.shape, values.ravel())
        assert not constant.raw_data
    found = bare(initializer=[constant]).initializers["c"].array()
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_attributes_of_every_type() -> None:
    given = {
        "f": 1.5, "i": -3, "s": b"text", "t": numpy_helper.from_array(np.arange(3)), "floats": [0.5, -1.0],
        "ints": [1, -(2**63), 2**63 - 1], "strings": [b"a", b""],
        "tensors": [numpy_helper.from_array(np.eye(2, dtype="f4"))], "g": helper.make_graph([], "g", [], []),
    }  # fmt: skip
    node = helper.make_node("Any", ["a", "", "b"], ["c"], domain="com.example", **given)
    found = bare(node=[node]).nodes[0]
    assert (found.inputs, found.domain, found.has_subgraph) == (["a", "", "b"], "com.example", True)
    tensor, (second,) = found.attributes.pop("t"), found.attributes.pop("tensors")
    np.testing.assert_array_equal(tensor.array(), np.arange(3))
    np.testing.assert_array_equal(second.array(), np.eye(2))
    assert found.attributes == {
        "f": 1.5, "i": -3, "s": b"text", "floats": (0.5, -1.0), "ints": (1, -(2**63), 2**63 - 1),
        "strings": (b"a", b""), "g": None,
    }  # fmt: skip


def test_numbers_one_by_one_are_as_good_as_packed_ones() -> None:
    """Protobuf readers take both; the onnx package writes one of them."""
    tensor = b"\x08\x02\x08\x01" + b"\x10\x03" + b"\x28\x05\x28" + b"\xff" * 9 + b"\x01" + b"\x42\x01w"
    attribute = b"\x0a\x01a\x42\x02\x01\x02\x40\x03\xa0\x01\x07"
    node = b"\x2a" + bytes([len(attribute)]) + attribute
    graph = b"\x0a" + bytes([len(node)]) + node + b"\x2a" + bytes([len(tensor)]) + tensor
    content = b"\x3a" + bytes([len(graph)]) + graph
    same_model(content, onnx.load_from_string(content))
    found = read_model(content)
    assert found.nodes[0].attributes == {"a": (1, 2, 3)}
    np.testing.assert_array_equal(found.initializers["w"].array(), np.int8([[5], [-1]]))


@pytest.mark.parametrize("mark", ["external_data", "data_location"])
def test_external_data_is_seen_by_either_of_its_marks(mark) -> None:
    constant = TensorProto(name="w", data_type=1, dims=[2])
    if mark == "external_data":
        constant.external_data.add(key="location", value="secret")
    else:
        constant.data_location = TensorProto.EXTERNAL
    hidden = onnx.AttributeProto(name="value", type=onnx.AttributeProto.INT, i=1, t=constant)
    node = onnx.NodeProto(op_type="Constant", attribute=[hidden])
    found = bare(initializer=[constant], node=[node])
    assert found.initializers["w"].has_external_data
    assert found.nodes[0].has_external_data
    with pytest.raises(ValueError, match="in another file"):
        found.initializers["w"].array()


@pytest.mark.parametrize(
    ("constant", "reason"),
    [
        (TensorProto(name="w", data_type=3, dims=[3], raw_data=b"12"), "2 values for the shape \\[3\\]"),
        (TensorProto(name="w", data_type=3, dims=[-1, -2], raw_data=b"12"), "for the shape"),
        (TensorProto(name="w", data_type=1, dims=[1], raw_data=b"12345"), "5 bytes of 4 each"),
        (TensorProto(name="w", data_type=1, dims=[2**40]), "0 values"),
        (TensorProto(name="w", data_type=8, dims=[1], string_data=[b"x"]), "data type 8"),
    ],
)
def test_a_constant_that_is_not_what_it_says_has_no_values(constant, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        bare(initializer=[constant]).initializers["w"].array()


def test_what_protobuf_would_merge_is_refused(tiny) -> None:
    content = (tiny / NAMES[0]).read_bytes()
    with pytest.raises(ValueError, match="gives the graph twice"):
        read_model(content + content)
    constant = TensorProto(name="w")
    with pytest.raises(ValueError, match="gives the constant 'w' twice"):
        bare(initializer=[constant, constant])
    with pytest.raises(ValueError, match="gives the attribute 'a' twice"):
        bare(node=[onnx.NodeProto(attribute=[onnx.AttributeProto(name="a")] * 2)])


def test_a_large_constant_costs_no_time_and_no_copy() -> None:
    constant = numpy_helper.from_array(np.ones((5000, 5000), np.float32), "w")
    content = onnx.ModelProto(graph=onnx.GraphProto(initializer=[constant])).SerializeToString()
    started = time.process_time()
    array = read_model(content).initializers["w"].array()
    assert time.process_time() - started < 0.05
    assert not array.flags.owndata and array[-1, -1] == 1


def test_a_model_of_too_many_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="too many parts"):
        read_model(b"\x08\x01" * (MAX_FIELDS + 1))
    attribute = onnx.AttributeProto(name="a", ints=[0] * (MAX_VALUES + 1), type=onnx.AttributeProto.INTS)
    with pytest.raises(ValueError, match="more than"):
        bare(node=[onnx.NodeProto(attribute=[attribute])])
