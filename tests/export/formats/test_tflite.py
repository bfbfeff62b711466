import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from scipy.stats import spearmanr

from edgeae_export.formats.compact import compact

TENSORS = {
    "encoder": (["input"], ["embedding"]),
    "decoder": (["embedding"], ["reconstruction"]),
    "scorer": (["input"], ["embedding", "error"]),
}
ROLES = list(TENSORS)
DEQUANTIZE, FULLY_CONNECTED, CUSTOM, QUANTIZE = 6, 9, 32, 114  # BuiltinOperator of TFLite's schema
INT8 = 9  # TensorType


def content(path):
    """The flatbuffer as objects."""
    return flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("role", ROLES)
def test_one_signature_names_the_tensors_which_are_float_with_a_free_batch(case, role, precision):
    interpreter = Interpreter(str(case.folder / f"{role}.{precision}.tflite"))
    (signature,) = interpreter.get_signature_list().values()
    assert (sorted(signature["inputs"]), sorted(signature["outputs"])) == TENSORS[role]
    size, latent = case.source.encoder.input_shape[1], case.source.decoder.input_shape[1]
    widths = {"input": (size,), "reconstruction": (size,), "embedding": (latent,), "error": ()}
    runner = interpreter.get_signature_runner()
    ((name, details),) = runner.get_input_details().items()
    assert tuple(details["shape_signature"]) == (-1, *widths[name])
    assert details["dtype"] == np.float32
    for rows in (1, 3, 2):
        for output, values in runner(**{name: np.zeros((rows, *widths[name]), np.float32)}).items():
            assert (values.shape, values.dtype) == ((rows, *widths[output]), np.float32)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("role", ROLES)
def test_operators_are_builtin_only(case, role, precision):
    model = content(case.folder / f"{role}.{precision}.tflite")
    assert len(model.signatureDefs) == 1
    assert model.operatorCodes
    for code in model.operatorCodes:
        assert code.customCode is None
        assert code.builtinCode != CUSTOM


@pytest.mark.parametrize("role", ROLES)
def test_float32_errors_are_those_of_keras(case, role, same_as):
    found, right = same_as(case.folder / f"{role}.float32.tflite", case.source, case.rows)
    # a decoder's raw units hold a column of offset 100 and range 0.01 to four digits
    allowed = 1e-3 if role == "decoder" and case.source.input.features else 1e-5
    np.testing.assert_allclose(found, right, rtol=allowed)


@pytest.mark.parametrize("role", ROLES)
def test_int8_errors_stay_within_the_limits(case, role, same_as, cosine):
    path = case.folder / f"{role}.int8.tflite"
    found, right = same_as(path, case.source, case.rows)
    assert not np.array_equal(found, right)
    assert np.median(np.abs(found - right) / right) <= 0.01
    assert spearmanr(found, right).statistic >= 0.999
    if role != "decoder":
        assert cosine(path, case.source, case.rows) >= 0.999


@pytest.mark.parametrize("role", ROLES)
def test_layers_have_int8_weights_by_channel_and_nothing_before_the_first_one_is_rounded(case, role):
    (graph,) = (model := content(case.folder / f"{role}.int8.tflite")).subgraphs
    kinds = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]
    layers = [o for o, kind in zip(graph.operators, kinds, strict=True) if kind == FULLY_CONNECTED]
    assert len(layers) == {"encoder": 2, "decoder": 2, "scorer": 4}[role]
    restored = {  # of a layer that computes in float
        operator.outputs[0]: operator.inputs[0]
        for operator, kind in zip(graph.operators, kinds, strict=True)
        if kind == DEQUANTIZE
    }
    for layer in layers:
        weights = graph.tensors[restored.get(layer.inputs[1], layer.inputs[1])]
        assert weights.type == INT8
        assert len(weights.quantization.scale) == weights.shape[0] > 1
    raw = set(graph.inputs)
    for operator, kind in zip(graph.operators, kinds, strict=True):
        if kind == QUANTIZE and role != "decoder":
            assert not raw & set(operator.inputs)  # the scaled input is rounded, not the raw one


@pytest.mark.parametrize("deviation", [5, 50, 1000])
def test_an_outlier_far_outside_the_calibrated_range_is_not_clipped_away(case, run, deviation):
    rows = case.rows[:200].reshape(200, -1).copy()
    normal = run(case.folder / "scorer.float32.tflite", rows)["error"]
    rows[:, 20] += deviation / case.source.scaler.gain[-1 if len(case.source.scaler.gain) == 1 else 20]
    exact = run(case.folder / "scorer.float32.tflite", rows)["error"]
    rounded = run(case.folder / "scorer.int8.tflite", rows)["error"]
    assert exact.min() > 2 * normal.max()
    np.testing.assert_allclose(rounded, exact, rtol=0.5)  # clipped, it would be a tenth or less
    assert rounded.min() > 2 * normal.max()


def fields(value):
    """An object of a flatbuffer, its lists and its arrays, as something that can be compared."""
    if isinstance(value, list | np.ndarray):
        return [fields(each) for each in value]
    return {k: fields(v) for k, v in vars(value).items()} if hasattr(value, "__dict__") else value


@pytest.mark.parametrize("role", ROLES)
def test_zero_points_are_written_once_and_nothing_else_changes(case, role):
    shared = (case.folder / f"{role}.int8.tflite").read_bytes()
    plain = bytes(flatbuffer_utils.convert_object_to_bytearray(content(case.folder / f"{role}.int8.tflite")))
    assert len(shared) < len(plain)
    assert compact(plain) == shared
    again = flatbuffer_utils.read_model_from_bytearray(bytearray(plain))
    assert fields(content(case.folder / f"{role}.int8.tflite")) == fields(again)
