"""TFLite models that would end the process are refused before the interpreter sees them."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeae_runtime
from edgeae_runtime import BundleError, EngineError
from edgeae_runtime.artifacts.flatbuffer import MAX_PARTS, FlatFile
from edgeae_runtime.artifacts.tflite_check import MAX_MEMORY, check_tflite
from edgeae_runtime.engines.registry import load_engine

NAMES = [
    f"{role}.{precision}.tflite"
    for role in ("encoder", "decoder", "scorer")
    for precision in ("float32", "int8")
]
INT8 = "scorer.int8.tflite"
FUZZ = Path(__file__).parents[1] / "fuzz_tflite.py"


@pytest.fixture
def changed(tiny) -> Callable[[Callable[[Any], object]], bytes]:
    """Return the int8 scorer after a function has changed its parts."""

    def build(change: Callable[[Any], object]) -> bytes:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel((tiny / INT8).read_bytes(), 0))
        change(model)
        builder = flatbuffers.Builder(8192)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    return build


def put(path: str, value: object) -> Callable[[Any], object]:
    """Return what sets one field or entry of a model."""

    def change(model: Any) -> None:
        place = model
        *parents, last = path.split(".")
        for key in parents:
            place = place[int(key)] if key.isdigit() else getattr(place, key)
        if last.isdigit():
            place[int(last)] = value
        else:
            setattr(place, last, value)

    return change


def grow(path: str) -> Callable[[Any], object]:
    """Return what repeats the last entry of a list."""

    def change(model: Any) -> None:
        place = model
        for key in path.split("."):
            place = place[int(key)] if key.isdigit() else getattr(place, key)
        place.append(place[-1])

    return change


def reason(content: bytes) -> str:
    with pytest.raises(
        ValueError, match=r"^the TFLite model is refused: .*; export the bundle again$"
    ) as caught:
        check_tflite(content)
    return (
        str(caught.value)
        .removeprefix("the TFLite model is refused: ")
        .removesuffix("; export the bundle again")
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_model_passes(tiny, name) -> None:
    check_tflite((tiny / name).read_bytes())


GRAPH, FIRST, FULLY = "subgraphs.0", "subgraphs.0.operators.0", "subgraphs.0.operators.5"
WRONG = {
    "a signature's subgraph": (
        put("signatureDefs.0.subgraphIndex", 1),
        "a signature is of a subgraph that is not",
    ),
    "a signature's tensor": (put("signatureDefs.0.outputs.0.tensorIndex", 99), "a signature names a tensor"),
    "a signature's other tensor": (
        put("signatureDefs.0.outputs.0.tensorIndex", 3),
        "a signature names a tensor",
    ),
    "a signature's unnamed tensor": (
        put("signatureDefs.0.inputs.0.name", None),
        "no signature's tensor name",
    ),
    "an output of -1": (put(f"{FIRST}.outputs", [-1]), "an operator's output is number -1 of 26"),
    "an output too far": (put(f"{FIRST}.outputs", [26]), "an operator's output is number 26 of 26"),
    "no output": (put(f"{FIRST}.outputs", []), "operator 41 has 2 inputs and 0 outputs"),
    "two outputs": (put(f"{FIRST}.outputs", [14, 15]), "operator 41 has 2 inputs and 2 outputs"),
    "a constant for an output": (put(f"{FIRST}.outputs", [9]), "operator 41 writes to what has values"),
    "the input for an output": (put(f"{FIRST}.outputs", [0]), "operator 41 writes to what has values"),
    "an absent input": (put(f"{FIRST}.inputs", [0, -1]), "an operator's input is number -1 of 26"),
    "absent weights": (put(f"{FULLY}.inputs", [24, -1, 2]), "an operator's input is number -1 of 26"),
    "an input too far": (put(f"{FIRST}.inputs", [0, 2**31 - 1]), "an operator's input is number 2147483647"),
    "an input of later": (
        put(f"{FIRST}.inputs", [0, 20]),
        "operator 41 reads a tensor that has no values yet",
    ),
    "too few inputs": (put(f"{FULLY}.inputs", [24]), "operator 9 has 1 inputs and 1 outputs"),
    "too many inputs": (put(f"{FIRST}.inputs", [0, 9, 9]), "operator 41 has 3 inputs and 1 outputs"),
    "an intermediate": (
        put(f"{FIRST}.intermediates", [26]),
        "an operator's intermediate tensor is number 26",
    ),
    "an operator's code": (put(f"{FIRST}.opcodeIndex", 9), "an operator's code is number 9 of 9"),
    "an unknown operator": (
        put("operatorCodes.0.builtinCode", 9999),
        "operator 9999 is none that is exported",
    ),
    "a while loop": (put("operatorCodes.0.builtinCode", 119), "operator 119 is none that is exported"),
    "a custom operator": (put("operatorCodes.0.customCode", "evil"), "operator 41 is none that is exported"),
    "custom options": (put(f"{FIRST}.customOptions", [1]), "operator 41 has options of a kind"),
    "other options": (put(f"{FIRST}.largeCustomOptionsOffset", 2**40), "operator 41 has options of a kind"),
    "a graph's input": (put(f"{GRAPH}.inputs", [-1]), "a graph's input is number -1 of 26"),
    "a constant as the input": (put(f"{GRAPH}.inputs", [9]), "an input is a constant"),
    "the input twice": (put(f"{GRAPH}.inputs", [0, 0]), "an input is a constant, a variable or another"),
    "a graph's output": (put(f"{GRAPH}.outputs", [19, 26]), "a graph's output is number 26 of 26"),
    "an output of nobody": (put(f"{GRAPH}.operators", []), "an output is computed by no operator"),
    "two graphs": (grow("subgraphs"), "it has 2 subgraphs, expected 1"),
    "no graph": (put("subgraphs", None), "it has no subgraphs"),
    "no tensors": (put(f"{GRAPH}.tensors", None), "it has no tensors"),
    "no buffers": (put("buffers", None), "it has no buffers"),
    "a version": (put("version", 4), "its schema is not of version 3"),
    "a tensor's buffer": (put(f"{GRAPH}.tensors.9.buffer", 99), "a tensor's buffer is number 99 of \\d+"),
    "a buffer of other size": (
        put(f"{GRAPH}.tensors.9.buffer", 1),
        "of shape \\[6\\] has a buffer of another size",
    ),
    "a buffer behind the model": (put("buffers.9.offset", 2**33), "a buffer lies behind the model"),
    "a variable constant": (put(f"{GRAPH}.tensors.9.isVariable", True), "a variable has a constant's values"),
    "a metadata buffer": (put("metadata.0.buffer", 2**31), "a metadata buffer is number 2147483648 of \\d+"),
    "an unnamed metadata": (put("metadata.0.name", None), "it has no metadata's name"),
    "a type": (put(f"{GRAPH}.tensors.9.type", 5), "a tensor is of type 5"),
    "an output's type": (put(f"{GRAPH}.tensors.14.type", 3), "operator 41 gives a tensor of type 3"),
    "a shape": (put(f"{GRAPH}.tensors.14.shape", [-1, 6]), "a tensor is of shape \\[-1, 6\\]"),
    "an empty shape": (put(f"{GRAPH}.tensors.14.shape", [0, 6]), "a tensor is of shape \\[0, 6\\]"),
    "a large shape": (put(f"{GRAPH}.tensors.14.shape", [2**15, 2**15]), f"take more than {MAX_MEMORY} bytes"),
    "a shape beyond 64 bits": (put(f"{GRAPH}.tensors.1.shape", [2**30] * 4), "another size"),
    "a rank": (put(f"{GRAPH}.tensors.14.shape", [1] * 9), "a tensor has 9 axes; at most 8 are allowed"),
    "two ranks": (put(f"{GRAPH}.tensors.14.shapeSignature", [-1]), "two shapes of different ranks"),
    "a zero point": (
        put(f"{GRAPH}.tensors.24.quantization.zeroPoint", [-129]),
        "a zero point out of its type's",
    ),
    "another zero point": (
        put(f"{GRAPH}.tensors.2.quantization.zeroPoint", [0, 0, 0, 2**31]),
        "a zero point out",
    ),
    "no zero points": (put(f"{GRAPH}.tensors.8.quantization.zeroPoint", None), "4 scales and 0 zero points"),
    "too few zero points": (
        put(f"{GRAPH}.tensors.8.quantization.zeroPoint", [0]),
        "4 scales and 1 zero points",
    ),
    "no scales": (put(f"{GRAPH}.tensors.24.quantization.scale", None), "0 scales and 1 zero points"),
    "too many scales": (
        lambda model: (
            put(f"{GRAPH}.tensors.8.quantization.scale", [1.0] * 5)(model),
            put(f"{GRAPH}.tensors.8.quantization.zeroPoint", [0] * 5)(model),
        ),
        "5 scales on axis 0",
    ),
    "an axis": (put(f"{GRAPH}.tensors.8.quantization.quantizedDimension", 2), "4 scales on axis 2"),
    "another axis": (put(f"{GRAPH}.tensors.8.quantization.quantizedDimension", -1), "4 scales on axis -1"),
    "a wrong axis": (put(f"{GRAPH}.tensors.8.quantization.quantizedDimension", 1), "4 scales on axis 1"),
    "a scale of 0": (put(f"{GRAPH}.tensors.24.quantization.scale", [0.0]), "a scale that is not positive"),
    "a negative scale": (
        put(f"{GRAPH}.tensors.24.quantization.scale", [-1.0]),
        "a scale that is not positive",
    ),
    "a scale of NaN": (put(f"{GRAPH}.tensors.24.quantization.scale", [float("nan")]), "a scale that is not"),
    "an infinite scale": (
        put(f"{GRAPH}.tensors.24.quantization.scale", [float("inf")]),
        "a scale that is not",
    ),
    "another quantization": (put(f"{GRAPH}.tensors.24.quantization.detailsType", 1), "quantized in a way"),
    "a sparse tensor": (
        put(f"{GRAPH}.tensors.8.sparsity", schema.SparsityParametersT()),
        "a tensor is sparse",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_the_interpreter_would_follow_is_refused(changed, kind) -> None:
    change, expected = WRONG[kind]
    assert re.search(expected, reason(changed(change)))


STRIDES = {
    "Conv2D": (3, schema.Conv2DOptionsT, "dilationWFactor"),
    "DepthwiseConv2D": (4, schema.DepthwiseConv2DOptionsT, "strideH"),
    "AveragePool2D": (1, schema.Pool2DOptionsT, "filterWidth"),
    "TransposeConv": (67, schema.TransposeConvOptionsT, "strideW"),
}


@pytest.mark.parametrize("value", [0, -1, 2**31 - 1])
@pytest.mark.parametrize("kind", STRIDES)
def test_a_stride_out_of_range_is_refused(changed, kind, value) -> None:
    code, make, field = STRIDES[kind]

    def change(model: Any) -> None:
        options = make()
        options.strideW = options.strideH = 1
        for side in {"filterWidth", "filterHeight"} & vars(options).keys():
            setattr(options, side, 1)
        setattr(options, field, value)
        model.operatorCodes[4].builtinCode = model.operatorCodes[4].deprecatedBuiltinCode = code
        operator = model.subgraphs[0].operators[5]
        operator.inputs = operator.inputs[:1] if code == 1 else operator.inputs
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, make.__name__[:-1])

    assert "a stride, dilation or side out of range" in reason(changed(change))


@pytest.mark.parametrize("count", [0, 2, 128, -1])
@pytest.mark.parametrize(
    ("code", "make", "field"),
    [
        (49, schema.SplitOptionsT, "numSplits"),
        (88, schema.UnpackOptionsT, "num"),
        (83, schema.PackOptionsT, "valuesCount"),
    ],
)
def test_more_tensors_than_there_are_are_refused(changed, code, make, field, count) -> None:
    """The kernels go by what the options say."""

    def change(model: Any) -> None:
        options = make()
        setattr(options, field, count)
        model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = code
        operator = model.subgraphs[0].operators[0]
        operator.inputs = [11, 0] if code == 49 else [0]
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, make.__name__[:-1])

    assert f"operator {code} has not as many tensors as its options say" in reason(changed(change))


def test_sizes_that_make_a_tensor_of_terabytes_are_refused(changed) -> None:
    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 69  # tile
        sizes = schema.TensorT(shape=[2], type=2, buffer=len(model.buffers))
        model.buffers.append(schema.BufferT(data=np.int32([2**20, 2**20]).view(np.uint8)))
        graph.tensors.append(sizes)
        graph.operators[0].inputs = [0, len(graph.tensors) - 1]

    assert "operator 69 makes a tensor of more than" in reason(changed(change))


@settings(deadline=None, max_examples=300)
@given(cut=st.integers(0, 4500), name=st.sampled_from(NAMES))
def test_a_model_cut_anywhere_is_refused(tiny, cut, name) -> None:
    content = (tiny / name).read_bytes()
    reason(content[: min(cut, len(content) // 2)])


@given(content=st.binary(max_size=200))
def test_garbage_is_refused(content) -> None:
    reason(content)
    reason(content[:4] + b"TFL3" + content[4:])


def test_a_part_that_is_referred_to_a_million_times_is_refused() -> None:
    """A vector of many offsets to one table costs the reader as much as many tables."""
    file = FlatFile(b"")
    file.spend(MAX_PARTS)
    with pytest.raises(ValueError, match="too many parts"):
        file.spend(1)


# --- through the runtime ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["a signature's subgraph", "an output of -1", "a zero point", "a scale of 0"]
)
def test_a_model_with_right_hashes_that_would_end_the_process(bundle, changed, refused, kind) -> None:
    change, expected = WRONG[kind]
    bundle.replace(INT8, changed(change))
    autoencoder = edgeae_runtime.load(bundle.path, engine="litert", precision="int8")
    with pytest.raises((BundleError, EngineError), match=expected) as caught:
        autoencoder.detect(np.zeros(6, np.float32))
    assert "\n" not in str(caught.value)
    checks = {check.artifact: check for check in edgeae_runtime.verify(edgeae_runtime.Bundle(bundle.path))}
    assert checks[INT8].status == "failed"
    assert "the TFLite model is refused" in checks[INT8].detail
    assert INT8 in refused("verify", bundle.path, status=3)


@pytest.mark.parametrize("kind", ["a signature's subgraph", "a zero point", "a scale of 0"])
def test_they_do_end_the_process_where_nothing_is_checked(changed, tmp_path, kind) -> None:
    """Else the tests above would show nothing."""
    path = tmp_path / INT8
    path.write_bytes(changed(WRONG[kind][0]))
    unchecked = (
        "import sys; from edgeae_runtime.engines import registry;"
        "from edgeae_runtime.artifacts import tflite_check;"
        "tflite_check.check_tflite = lambda content: None;"
        "engine = registry.load_engine('litert', open(sys.argv[1], 'rb').read(), 'scorer', 1);"
        "import numpy; engine.run(numpy.zeros((1, 6), 'f'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", unchecked, path], capture_output=True, timeout=60, check=False
    )
    assert done.returncode < 0, done.stderr  # a signal


def test_a_few_hundred_changed_models_end_no_process(tiny) -> None:
    """tests/system/test_fuzz.py tries all changes."""
    command = [sys.executable, FUZZ, tiny / INT8, "scorer", "7", "400"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900, check=False)
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"{last} {done.stderr[-1000:]}"
    assert all(f'"field {word}"' in last[0] for word in ("refused", "failed", "ran")), last


def test_the_engine_is_not_asked_about_what_is_refused(changed) -> None:
    with pytest.raises(EngineError, match="litert cannot load the scorer: the TFLite model is refused"):
        load_engine("litert", changed(WRONG["an output of -1"][0]), "scorer", 1)
