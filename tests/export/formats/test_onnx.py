from collections import defaultdict

import numpy as np
import onnx
import onnxruntime
import pytest
from scipy.stats import spearmanr

LAYERS = {"MatMul", "Gemm"}
TENSORS = {
    "encoder": (["input"], ["embedding"]),
    "decoder": (["embedding"], ["reconstruction"]),
    "scorer": (["input"], ["embedding", "error"]),
}
ROLES = list(TENSORS)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("role", ROLES)
def test_tensors_have_their_names_and_a_batch_axis_of_that_name(case, role, precision):
    model = onnx.load(case.folder / f"{role}.{precision}.onnx")
    inputs, outputs = TENSORS[role]
    assert [value.name for value in model.graph.input] == inputs
    assert sorted(value.name for value in model.graph.output) == outputs
    size, latent = case.source.encoder.input_shape[1], case.source.decoder.input_shape[1]
    widths = {"input": [size], "reconstruction": [size], "embedding": [latent], "error": []}
    for value in (*model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.FLOAT
        assert [d.dim_param or d.dim_value for d in tensor.shape.dim] == ["batch", *widths[value.name]]


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("role", ROLES)
def test_old_onnxruntimes_can_read_it_and_it_says_nothing_of_the_machine(case, role, precision):
    path = case.folder / f"{role}.{precision}.onnx"
    model = onnx.load(path)
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 17}
    assert model.ir_version <= 8
    assert not model.metadata_props and not model.doc_string and not model.graph.doc_string
    assert b"/tmp" not in path.read_bytes()


@pytest.mark.parametrize("role", ROLES)
def test_float32_errors_are_those_of_keras(case, role, same_as):
    found, right = same_as(case.folder / f"{role}.float32.onnx", case.source, case.rows)
    # a decoder's raw units hold a column of offset 100 and range 0.01 to four digits
    allowed = 1e-3 if role == "decoder" and case.source.input.features else 1e-5
    np.testing.assert_allclose(found, right, rtol=allowed)


def test_float32_tensors_are_those_of_keras(case, run, keras_says):
    right = keras_says(case.source, case.rows)
    flat = case.rows.reshape(len(case.rows), -1)
    for path in (case.folder / "encoder.float32.onnx", case.folder / "scorer.float32.onnx"):
        np.testing.assert_allclose(run(path, flat)["embedding"], right.embedding, rtol=1e-4, atol=1e-5)
    raw = run(case.folder / "decoder.float32.onnx", right.embedding)["reconstruction"]
    step = 1 / np.array(case.source.scaler.gain)  # of one in scaled units
    wrong = np.abs(raw.reshape(case.rows.shape) - right.reconstruction) / step
    assert wrong.max() < 1e-5 + 1e-7 * np.abs(np.array(case.source.scaler.offset) / step).max()


@pytest.mark.parametrize("role", ROLES)
def test_int8_errors_stay_within_the_limits(case, role, same_as, cosine):
    path = case.folder / f"{role}.int8.onnx"
    found, right = same_as(path, case.source, case.rows)
    assert not np.array_equal(found, right)
    assert np.median(np.abs(found - right) / right) <= 0.01
    assert spearmanr(found, right).statistic >= 0.999
    if role != "decoder":
        assert cosine(path, case.source, case.rows) >= 0.999


def readers(graph):
    found = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            found[name].append(node)
    return found


@pytest.mark.parametrize("role", ROLES)
def test_nothing_but_layers_reads_a_rounded_tensor_and_each_layers_weights_are_int8(case, role):
    graph = onnx.load(case.folder / f"{role}.int8.onnx").graph
    constants = {c.name: c for c in graph.initializer}
    maker = {name: node for node in graph.node for name in node.output}
    read_by = readers(graph)

    rounded = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert rounded or role == "decoder"  # whose two layers, beside code and result, may compute in float
    for node in rounded:
        for restored in read_by[node.output[0]]:
            assert restored.op_type == "DequantizeLinear"
            assert {reader.op_type for reader in read_by[restored.output[0]]} <= LAYERS
    results = {output.name for output in graph.output}
    assert not {maker[name].op_type for name in results} & {"QuantizeLinear", "DequantizeLinear"}

    layers = [node for node in graph.node if node.op_type in LAYERS]
    assert len(layers) == {"encoder": 2, "decoder": 2, "scorer": 4}[role]
    for layer in layers:
        restored, given = maker[layer.input[1]], maker.get(layer.input[0])
        if given is not None and given.op_type == "DequantizeLinear":  # which makes an int8 layer of it
            assert restored.op_type == "DequantizeLinear"
            weights, scale = (constants[name] for name in restored.input[:2])
        else:  # in float, so the weights are restored by what ONNX Runtime does once, when it loads them
            cast, scale = maker[restored.input[0]], constants[restored.input[1]]
            assert (restored.op_type, cast.op_type) == ("Mul", "Cast")
            weights = constants[cast.input[0]]
        assert weights.data_type == onnx.TensorProto.INT8
        channels = max(scale.dims)
        assert channels in weights.dims and channels > 1  # one a channel


@pytest.mark.parametrize("role", ROLES)
def test_onnx_runtime_restores_no_weights_while_it_runs(case, role, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that the file is for this machine
    onnxruntime.InferenceSession(
        case.folder / f"{role}.int8.onnx", options, providers=["CPUExecutionProvider"]
    )
    graph = onnx.load(tmp_path / "optimized.onnx").graph
    constants = {c.name for c in graph.initializer}
    assert graph.node
    restored = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    assert not restored


def ancestors(graph, name):
    """The kinds of all operations that a tensor hangs on, down to the layers and not past them."""
    maker = {output: node for node in graph.node for output in node.output}
    kinds, waiting = set(), [name]
    while waiting:
        node = maker.get(waiting.pop())
        if node is not None:
            kinds.add(node.op_type)
            if node.op_type not in LAYERS:
                waiting += node.input
    return kinds


def test_between_input_and_error_only_layers_round(case):
    graph = onnx.load(case.folder / "scorer.int8.onnx").graph
    kinds = ancestors(graph, "error")
    assert kinds & LAYERS and "Sub" in kinds  # the scaler and the difference
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize("deviation", [5, 50, 1000])
def test_an_outlier_far_outside_the_calibrated_range_is_not_clipped_away(case, run, deviation):
    rows = case.rows[:200].reshape(200, -1).copy()
    normal = run(case.folder / "scorer.float32.onnx", rows)["error"]
    rows[:, 20] += deviation / case.source.scaler.gain[-1 if len(case.source.scaler.gain) == 1 else 20]
    exact = run(case.folder / "scorer.float32.onnx", rows)["error"]
    rounded = run(case.folder / "scorer.int8.onnx", rows)["error"]
    assert exact.min() > 2 * normal.max()
    np.testing.assert_allclose(rounded, exact, rtol=0.5)  # clipped, it would be a tenth or less
    assert rounded.min() > 2 * normal.max()
