"""Quantized ONNX artifacts, by ONNX Runtime: only the network's layers are quantized."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeae_runtime import Floats, Recipe
from edgeae_runtime.bundle import TENSORS
from edgeae_runtime.names import Role

from ..formats.onnx import LAYERS, finish
from .grid import scales

DYNAMIC_LAYERS = ["MatMul", "Gemm", "LSTM"]
"""Operators that can be quantized at run time; ONNX Runtime's dynamic convolution is slower than float."""

PERCENTILE = 99.99
"""Percentage of the activations that percentile calibration keeps unclipped."""

ENTROPY_BINS = 1024
"""Bins of the histogram whose range entropy calibration searches, at least 128 of them."""

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.MinMax,  # of ranges that are found beforehand
}


def quantize(model: bytes, role: Role, calibration: Floats, recipe: Recipe) -> bytes:
    """Return the quantized twin of a float32 model.

    A layer's output is left in float where the next operation is not a layer, which halves the damage
    and is no slower. With calibrated ranges, recurrent layers stay in float: the ranges would not hold
    for a state that feeds back.

    Args:
        model: from `convert`, of a source whose weights are rounded as the recipe defines.
        role: of the model.
        calibration: rows for the model's input, (n, *shape).
        recipe: how.
    """
    with tempfile.TemporaryDirectory() as folder:
        original, prepared, quantized = (
            Path(folder, f"{name}.onnx") for name in ("model", "prepared", "quantized")
        )
        original.write_bytes(model)
        # symbolic shapes need sympy and serve transformers; what is wanted here is the fusion to Gemm
        quant_pre_process(str(original), str(prepared), skip_symbolic_shape=True)
        per_channel = recipe.granularity == "channel"
        if recipe.calibration is None:
            quantize_dynamic(
                str(prepared),
                str(quantized),
                DYNAMIC_LAYERS,
                per_channel,
                reduce_range=True,  # of the LSTM's weights, which take no overrides
                extra_options={"TensorQuantOverrides": _weight_scales(prepared, per_channel)},
            )
            return finish(onnx.load(str(quantized)))
        rows = _Rows(TENSORS[role][0], calibration)
        overrides = _weight_scales(prepared, per_channel)
        if recipe.calibration == "entropy":
            overrides |= _entropy_ranges(prepared, rows)
        quantize_static(
            str(prepared),
            str(quantized),
            _Rows(TENSORS[role][0], calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=LAYERS,
            nodes_to_exclude=_recurrent(onnx.load(str(prepared)).graph),
            per_channel=per_channel,
            activation_type=QuantType.QUInt8 if recipe.activations == "unsigned" else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=_METHODS[recipe.calibration],
            extra_options={
                "OpTypesToExcludeOutputQuantization": LAYERS,
                "CalibPercentile": PERCENTILE,
                "TensorQuantOverrides": overrides,
            },
        )
        result = onnx.load(str(quantized))
    _round_only_into_layers(result.graph, recipe)
    _restore_when_loaded(result.graph)
    _drop_zero_points(result.graph)
    _drop_unread(result.graph)
    return finish(result)


def _entropy_ranges(model: Path, rows: CalibrationDataReader) -> dict[str, list[dict[str, Any]]]:
    """Return the range of each tensor whose histogram loses least by rounding (Kullback-Leibler).

    ONNX Runtime's own call takes as many bins as levels, which leaves nothing to choose but all of it.
    """
    calibrator = create_calibrator(
        model,
        LAYERS,
        augmented_model_path=str(model.with_name("augmented.onnx")),
        calibrate_method=CalibrationMethod.Entropy,
        extra_options={"num_bins": ENTROPY_BINS, "num_quantized_bins": 128},
    )
    calibrator.collect_data(rows)
    found = calibrator.compute_data().items()
    return {name: [{"rmin": data.range_value[0], "rmax": data.range_value[1]}] for name, data in found}


def _weight_scales(model: Path, per_channel: bool) -> dict[str, list[dict[str, Any]]]:
    """Return the scales of the layers' weights with which no processor's sums overflow; see `grid`."""
    graph = onnx.load(str(model)).graph
    constants = {constant.name: constant for constant in graph.initializer}
    found: dict[str, list[dict[str, Any]]] = {}
    for node in graph.node:
        if node.op_type not in LAYERS or node.input[1] not in constants:
            continue
        weights = onnx.numpy_helper.to_array(constants[node.input[1]])
        axis = _channel_axis(node) % weights.ndim
        kernel = np.moveaxis(weights, axis, -1).reshape(-1, weights.shape[axis])
        shared = {"zero_point": np.zeros((), np.int8), **({"axis": axis} if per_channel else {})}
        values = scales(kernel, shared=not per_channel)
        found[node.input[1]] = [{**shared, "scale": v} for v in (values if per_channel else values[:1])]
    return found


def _channel_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a layer's weights along which its output channels lie."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return {"MatMul": -1, "Conv": 0, "ConvTranspose": 1}[node.op_type]


def _recurrent(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the layers that share their weights: the steps of an unrolled recurrence."""
    layers = [node for node in graph.node if node.op_type in LAYERS]
    uses = Counter(node.input[1] for node in layers)
    return [node.name for node in layers if uses[node.input[1]] > 1]


def to_float16(model: bytes) -> bytes:
    """Return a model whose layers' weights are kept in half precision and restored when it is loaded.

    Arithmetic stays in float32: few small processors have fast float16, and the scaler's offsets and the
    error would not survive it.
    """
    result = onnx.load_from_string(model)
    graph = result.graph
    weights = {name for node in graph.node if node.op_type in (*LAYERS, "LSTM", "GRU") for name in node.input}
    for constant in [
        c for c in graph.initializer if c.name in weights and c.data_type == onnx.TensorProto.FLOAT
    ]:
        half = onnx.numpy_helper.from_array(
            onnx.numpy_helper.to_array(constant).astype(np.float16), f"{constant.name}_float16"
        )
        graph.initializer.remove(constant)
        graph.initializer.append(half)
        graph.node.insert(
            0, onnx.helper.make_node("Cast", [half.name], [constant.name], to=onnx.TensorProto.FLOAT)
        )
    return finish(result)


def _round_only_into_layers(graph: onnx.GraphProto, recipe: Recipe) -> None:
    """Let everything but a layer read its tensors unrounded; where so asked, the layer behind the code too.

    The quantizer sends all readers of a layer's input through the rounding, the error among them: it
    would compare the reconstruction with a rounded input, clipped to the range seen in calibration.
    """
    rounding = {n.output[0]: n for n in graph.node if n.op_type == "QuantizeLinear"}
    restoring = {
        n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in rounding
    }
    original = {name: rounding[node.input[0]].input[0] for name, node in restoring.items()}
    code = {"embedding", original.get("embedding")} if recipe.float_tensors != "none" else set()
    last = (
        [node.name for node in graph.node if node.op_type in LAYERS][-1:]
        if recipe.float_tensors == "ends"
        else []
    )
    for node in graph.node:
        for i, name in enumerate(node.input):
            rounded = node.op_type in LAYERS and node.name not in last
            if name in original and (not rounded or original[name] in code):
                node.input[i] = original[name]
    read = {name for node in graph.node for name in node.input}
    unread = [node for name, node in restoring.items() if name not in read]
    for node in (*unread, *(rounding[node.input[0]] for node in unread)):
        graph.node.remove(node)
    renamed = {}  # an output keeps its name, and now is the tensor before the rounding
    for output in graph.output:
        if output.name in original:
            renamed[original[output.name]] = output.name
            renamed[output.name] = f"{output.name}_rounded"
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]


def _restore_when_loaded(graph: onnx.GraphProto) -> None:
    """Write out how the rounded weights of layers that compute in float become floats again.

    ONNX Runtime turns a layer between roundings into one in int8. Of any other it restores the weights at
    each run: it folds no DequantizeLinear, but does fold what that does, with the same bits. On the dense
    784-128-32-128-784 model a third of the time went there.
    """
    constants = {constant.name: constant for constant in graph.initializer}
    restored = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    for node in [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]:
        readers = [reader for reader in graph.node if node.output[0] in reader.input]
        in_float = all(r.op_type in LAYERS and r.input[0] not in restored for r in readers)
        zero_point = onnx.numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else None
        if not in_float or (zero_point is not None and zero_point.any()):
            continue
        weights, scale = (onnx.numpy_helper.to_array(constants[name]) for name in node.input[:2])
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        if scale.size > 1:
            scale = scale.reshape([-1 if i == axis % weights.ndim else 1 for i in range(weights.ndim)])
        (name,), place = node.output, list(graph.node).index(node)
        graph.initializer.append(onnx.numpy_helper.from_array(scale, f"{name}_scale"))
        graph.node.remove(node)
        graph.node.insert(place, onnx.helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [name]))
        graph.node.insert(
            place,
            onnx.helper.make_node("Cast", [node.input[0]], [f"{name}_cast"], to=onnx.TensorProto.FLOAT),
        )


def _drop_zero_points(graph: onnx.GraphProto) -> None:
    """Leave out the zero points of int32 biases: zeros, one for each value, that may as well be absent."""
    kinds = {constant.name: constant.data_type for constant in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and kinds.get(node.input[0]) == onnx.TensorProto.INT32:
            del node.input[2:]


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove the constants that no node reads."""
    read = {name for node in graph.node for name in node.input}
    for constant in [c for c in graph.initializer if c.name not in read]:
        graph.initializer.remove(constant)


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Feeds all calibration rows at once: the histogram calibrators want batches of one size."""

    def __init__(self, name: str, rows: Floats) -> None:
        self._batches = iter([{name: rows}])

    def get_next(self) -> dict[str, Floats] | None:
        return next(self._batches, None)
