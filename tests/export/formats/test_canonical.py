import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeae_export.formats.canonical import canonicalize

FLOAT = TensorProto.FLOAT


def graph(names, shuffled=(0, 1, 2)):
    """relu(input * two + one) * one and its sigmoid, with whatever names."""
    a, b, c, one, two, again, dead = names
    nodes = [
        helper.make_node("Mul", ["input", two], [a], name=f"x{a}"),
        helper.make_node("Add", [a, one], [b], name=f"x{b}"),
        helper.make_node("Relu", [b], [c], name=f"x{c}"),
        helper.make_node("Mul", [c, again], ["embedding"], name="last"),
        helper.make_node("Sigmoid", ["embedding"], ["error"]),
        helper.make_node("Neg", [c], [dead]),
    ]
    constants = [
        numpy_helper.from_array(np.float32(value), name) for name, value in ((one, 1), (two, 2), (again, 1))
    ]
    return helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info(n, FLOAT, ["batch", 3]) for n in ("embedding", "error")],
        [constants[i] for i in shuffled],
    )


names = st.lists(st.text("abcdefgh_:/", min_size=1, max_size=9), min_size=7, max_size=7, unique=True)


@settings(deadline=None)
@given(names=names, shuffled=st.permutations([0, 1, 2]))
def test_the_same_computation_gives_the_same_bytes_whatever_its_names(names, shuffled):
    plain, other = graph("tuvwxyz"), graph(names, shuffled=shuffled)
    for each in (plain, other):
        canonicalize(each)
    assert plain.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


def test_it_still_computes_the_same_in_an_order_that_runs():
    made = graph("tuvwxyz")
    before = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnx.reference.ReferenceEvaluator(before)
    rows = {"input": np.float32([[-3, 0, 5]])}
    expected = session.run(None, rows)
    after = onnx.ModelProto()
    after.CopyFrom(before)
    canonicalize(after.graph)
    onnx.checker.check_model(after)
    np.testing.assert_array_equal(onnx.reference.ReferenceEvaluator(after).run(None, rows), expected)
    assert [node.op_type for node in after.graph.node] == ["Mul", "Add", "Relu", "Mul", "Sigmoid"]
    assert [node.name for node in after.graph.node] == ["Mul_0", "Add_1", "Relu_2", "Mul_3", "Sigmoid_4"]
    assert [c.name for c in after.graph.initializer] == ["constant_0", "constant_1"]  # two ones became one
    assert [value.name for value in after.graph.output] == ["embedding", "error"]


@pytest.mark.parametrize("different", ["value", "order"])
def test_another_computation_gives_other_bytes(different):
    plain, other = graph("tuvwxyz"), graph("tuvwxyz")
    if different == "value":
        other.initializer[1].CopyFrom(numpy_helper.from_array(np.float32(3), "x"))
    else:
        other.node[1].input.reverse()
    for each in (plain, other):
        canonicalize(each)
    assert plain.SerializeToString() != other.SerializeToString()


def test_equal_numbers_of_another_type_or_shape_stay_apart():
    made = graph("tuvwxyz")
    made.initializer[2].CopyFrom(numpy_helper.from_array(np.float32([1]), "y"))
    canonicalize(made)
    assert len(made.initializer) == 3


def test_a_graph_with_a_loop_inside_is_left_as_it_is():
    made = graph("tuvwxyz")
    inner = helper.make_graph([helper.make_node("Neg", ["t"], ["s"])], "body", [], [])
    made.node.append(helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner))
    before = made.SerializeToString()
    canonicalize(made)
    assert made.SerializeToString() == before
