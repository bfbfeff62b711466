"""Which int8 weights of an ONNX file would saturate 16-bit sums of two products."""

from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np
from onnx import TensorProto, helper, numpy_helper

import edgeae_runtime
from edgeae_runtime import verify
from edgeae_runtime.artifacts.overflow import overflowing_weights

OK, BAD = [64, 64, -127, 0, 1, -1], [65, 64, 0, 0, 0, 0]
"""Weights of an output channel, in some order of its entries."""


def model(op_type, weights, place=1, domain="", restored=False, **attributes):
    """The bytes of a model of one operator with these int8 weights as one of its inputs."""
    constants = [numpy_helper.from_array(np.asarray(weights, np.int8), "w")]
    nodes = []
    name = "w"
    if restored:
        constants.append(numpy_helper.from_array(np.float32(0.1), "scale"))
        nodes.append(helper.make_node("DequantizeLinear", ["w", "scale"], ["w_float"]))
        name = "w_float"
    inputs = [name if i == place else f"x{i}" for i in range(place + 1)]
    nodes.append(helper.make_node(op_type, inputs, ["y"], domain=domain, **attributes))
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x0", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    return helper.make_model(graph).SerializeToString()


def column(channel):
    """(entries, 2): the channel, and one that is zero."""
    return np.stack([channel, np.zeros(len(channel))], axis=1)


KINDS = {
    "MatMul": lambda c: model("MatMul", column(c), restored=True),
    "MatMul of a batch": lambda c: model("MatMul", column(c)[None], restored=True),
    "Gemm": lambda c: model("Gemm", column(c), restored=True),
    "Gemm, transposed": lambda c: model("Gemm", column(c).T, restored=True, transB=1),
    "Conv": lambda c: model("Conv", column(c).T.reshape(2, 2, 3), restored=True),
    "Conv2D": lambda c: model("Conv", column(c).T.reshape(2, 1, 2, 3), restored=True),
    "ConvTranspose": lambda c: model(
        "ConvTranspose", np.moveaxis(column(c).T.reshape(2, 2, 3), 0, 1), restored=True
    ),
    "MatMulInteger": lambda c: model("MatMulInteger", column(c)),
    "ConvInteger": lambda c: model("ConvInteger", column(c).T.reshape(2, 3, 2)),
    "QLinearMatMul": lambda c: model("QLinearMatMul", column(c), 3),
    "QLinearConv": lambda c: model("QLinearConv", column(c).T.reshape(2, 6, 1), 3),
    "QGemm": lambda c: model("QGemm", column(c).T, 3, "com.microsoft", transB=1),
    "DynamicQuantizeMatMul": lambda c: model("DynamicQuantizeMatMul", column(c), 1, "com.microsoft"),
    "the LSTM's inputs": lambda c: model("DynamicQuantizeLSTM", column(c)[None], 1, "com.microsoft"),
    "the LSTM's states": lambda c: model("DynamicQuantizeLSTM", column(c)[None], 2, "com.microsoft"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_pair_that_is_too_large_is_found_wherever_it_lies_and_one_that_fits_is_not(kind, sign):
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(6)
        assert overflowing_weights(KINDS[kind](sign * np.array(OK)[order])) == []
        assert overflowing_weights(KINDS[kind](sign * np.array(BAD)[order])) == ["w"]


@settings(deadline=None)
@given(st_np.arrays(np.int8, st.tuples(st.integers(1, 5), st.integers(1, 3))))
def test_it_is_what_the_processors_instruction_would_do(weights):
    """vpmaddubsw with the largest activations: 16 bits, saturated."""
    pairs = [255 * (int(a) + int(b)) for column in weights.T for a, b in combinations(column, 2)]
    alone = [255 * int(a) for a in weights.flat]
    saturates = any(not -32_768 <= total <= 32_767 for total in [*pairs, *alone])
    assert bool(overflowing_weights(model("MatMulInteger", weights))) == saturates


def test_weights_of_other_types_and_what_is_no_weight_are_let_be():
    unsigned = model("MatMulInteger", column(BAD))
    loaded = onnx.load_from_string(unsigned)
    constant = numpy_helper.from_array(np.full((6, 2), 255, np.uint8), "w")
    loaded.graph.initializer[0].CopyFrom(constant)
    assert overflowing_weights(loaded.SerializeToString()) == []
    assert overflowing_weights(model("Add", column(BAD))) == []


def finer(content):
    """The same model with weights and biases cut into more steps, as 0.1.0 did."""
    loaded = onnx.load_from_string(content)
    constants = {constant.name: constant for constant in loaded.graph.initializer}
    weights = (TensorProto.INT8, TensorProto.INT32)
    layers = [n for n in loaded.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    layers = [n for n in layers if constants[n.input[0]].data_type in weights]
    for name in {n.input[0] for n in layers}:
        values = numpy_helper.to_array(constants[name])
        more = numpy_helper.from_array(np.round(values * 1.17).astype(values.dtype), name)
        constants[name].CopyFrom(more)
    for name in {n.input[1] for n in layers}:
        less = numpy_helper.from_array(numpy_helper.to_array(constants[name]) / np.float32(1.17), name)
        constants[name].CopyFrom(less)
    return loaded.SerializeToString()


def test_no_file_of_a_bundle_has_such_weights_and_verify_tells_of_one_that_has(tiny, bundle, run):
    content = {path.name: path.read_bytes() for path in tiny.glob("*.onnx")}
    assert len(content) == 6
    assert {name: overflowing_weights(found) for name, found in content.items()} == {
        name: [] for name in content
    }
    assert "VNNI" not in run("verify", tiny).output

    changed = finer(content["scorer.int8.onnx"])
    assert overflowing_weights(changed)
    bundle.replace("scorer.int8.onnx", changed)
    found = {check.artifact: check for check in verify(edgeae_runtime.Bundle(bundle.path))}
    changed_one = found.pop("scorer.int8.onnx")
    assert not any("VNNI" in check.detail for check in found.values())
    if changed_one.status == "ok":  # else this processor is one of those
        assert changed_one.detail.endswith("export it again") and "VNNI" in changed_one.detail
    else:
        assert "avx2" in flags() and not {"avx512_vnni", "avx_vnni"} & flags()


def flags():
    """This processor's, as the kernel names them."""
    text = Path("/proc/cpuinfo").read_text()
    return set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
