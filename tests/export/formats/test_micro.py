"""The bare int8 autoencoder: in TensorFlow Lite Micro's interpreter, and as C beside a C program."""

import json
import platform
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from packages import needs

from edgeae_export.builder import Options
from edgeae_export.formats.micro import Quantization, quantizations
from edgeae_export.pipeline import export_source
from edgeae_runtime import Bundle, reconstruction_error, verify
from edgeae_runtime.engines.registry import load_engine

MODEL = "autoencoder.int8.tflite"
SOURCE, HEADER = "autoencoder.int8.c", "autoencoder.int8.h"


@pytest.fixture(scope="module", params=["digits", "pump"])
def micro(request, tmp_path_factory):
    """Images of one scale for all, or a table with one for each column; exported as C, nothing else."""
    made = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp("micro") / "micro.edgeae"
    manifest = export_source(made.source, folder, Options(formats=("c",)))
    content = (folder / MODEL).read_bytes()
    raw = np.ascontiguousarray(made.rows[:100].reshape(100, -1), dtype=np.float32)
    return SimpleNamespace(
        source=made.source,
        rows=made.rows,
        raw=raw,
        scaled=made.source.scaler.scale(made.rows[:100]).reshape(100, -1),
        folder=folder,
        manifest=manifest,
        content=content,
        tensors=quantizations(content),
    )


def in_litert(micro, levels):
    engine = load_engine("litert", micro.content, "autoencoder", threads=1)
    return engine.run(levels.reshape(-1, *engine.shape))


# --- the numbers ---------------------------------------------------------------------------------


def test_values_are_rounded_to_the_nearest_level_and_clipped():
    quantization = Quantization(scale=0.5, zero_point=-3)
    values = np.float32([0, 0.2, 0.3, -0.75, 1000, -1000])
    assert quantization.quantize(values).tolist() == [-3, -3, -2, -5, 127, -128]
    assert quantization.restore(np.int8([-3, -2, 127, -128])).tolist() == [0, 0.5, 65, -62.5]
    assert quantization.quantize(values).dtype == np.int8


def test_the_bundle_holds_model_source_and_header_and_verifies(micro):
    assert {path.name for path in micro.folder.iterdir()} == {
        *("manifest.json", "manifest.sha256", "golden.npz"),
        *(MODEL, SOURCE, HEADER),
    }
    assert [a.path for a in micro.manifest.artifacts] == [MODEL, SOURCE]
    assert micro.manifest.artifacts[0].threshold == micro.manifest.artifacts[1].threshold
    assert micro.manifest.artifacts[0].recipe.name == "micro"
    assert {c.artifact: c.status for c in verify(Bundle(micro.folder))} == dict.fromkeys(
        [MODEL, SOURCE, HEADER], "ok"
    )


def test_its_error_and_threshold_are_those_of_the_scaled_reconstruction(micro):
    held_out = micro.source.rows[len(micro.source.rows) // 2 :]
    scaled = micro.source.scaler.scale(held_out).reshape(len(held_out), -1)
    _, copy = in_litert(micro, micro.tensors["input"].quantize(scaled))
    error = reconstruction_error(scaled, micro.tensors["reconstruction"].restore(copy))
    artifact = micro.manifest.artifacts[0]
    assert artifact.threshold.value == pytest.approx(np.quantile(error, 0.99), rel=1e-5)
    keras_copy = np.asarray(micro.source.decoder(micro.source.encoder(scaled)))
    right = reconstruction_error(scaled, keras_copy)
    assert artifact.fidelity.error_median == pytest.approx(np.median(np.abs(error - right) / right), rel=1e-3)
    assert 1e-4 < artifact.fidelity.error_median < 0.05


# --- in TensorFlow Lite Micro ----------------------------------------------------------------------


def in_micro(micro, levels):
    """What TensorFlow Lite Micro's interpreter gives, row by row, as a microcontroller would."""
    if platform.machine() != "x86_64":
        pytest.skip("tflite-micro has wheels for x86-64 alone")
    from tflite_micro.python.tflite_micro import runtime as micro_runtime

    interpreter = micro_runtime.Interpreter.from_bytes(micro.content)
    sizes = [interpreter.get_output_details(i)["shape"][-1] for i in range(2)]
    indices = [sizes.index(micro.manifest.latent_size), sizes.index(micro.manifest.input.size)]
    rows = []
    for row in levels:
        interpreter.set_input(row[np.newaxis], 0)
        interpreter.invoke()
        rows.append([interpreter.get_output(index)[0] for index in indices])
    return [np.array(values) for values in zip(*rows, strict=True)]


def test_tensorflow_lite_micro_scores_as_litert_did_when_the_threshold_was_set(micro):
    """LiteRT's own kernels round halves in another direction, which adds up to a few steps of 256."""
    levels = micro.tensors["input"].quantize(micro.scaled)
    found, expected = in_micro(micro, levels), in_litert(micro, levels)
    for ours, theirs, most in zip(found, expected, (1, 4), strict=True):
        assert ours.dtype == np.int8
        steps = np.abs(np.int32(ours) - theirs)
        assert steps.max() <= most
        assert np.mean(steps > 1) <= 0.01
    errors = [
        reconstruction_error(micro.scaled, micro.tensors["reconstruction"].restore(copy))
        for _, copy in (found, expected)
    ]
    assert np.median(np.abs(errors[0] - errors[1]) / errors[1]) <= 0.005
    limit = micro.manifest.artifacts[0].threshold.value
    assert np.mean((errors[0] > limit) != (errors[1] > limit)) <= 0.01


def test_it_has_no_float_tensor_and_only_operators_of_int8(micro):
    from ai_edge_litert.tools import flatbuffer_utils

    graph = flatbuffer_utils.read_model_from_bytearray(bytearray(micro.content)).subgraphs[0]
    float32, int8, int32 = 0, 9, 2
    kinds = {tensor.type for tensor in graph.tensors}
    assert float32 not in kinds
    assert int8 in kinds and kinds <= {int8, int32}  # biases and shapes


# --- as C ------------------------------------------------------------------------------------------

PROGRAM = """
#include <inttypes.h>
#include <stdio.h>
#include "autoencoder.int8.h"

int main(void) {
  float raw[EDGEAE_INPUT_SIZE];
  int8_t reconstruction[EDGEAE_INPUT_SIZE], input[EDGEAE_INPUT_SIZE];
  size_t i;
  printf("{\\"alignment\\": %u, \\"threshold\\": %.9g, \\"latent\\": %d, \\"scaler\\": %d, \\"model\\": \\"",
         (unsigned)((uintptr_t)edgeae_model % 16), (double)EDGEAE_THRESHOLD, EDGEAE_LATENT_SIZE,
         EDGEAE_SCALER_SIZE);
  for (i = 0; i < EDGEAE_MODEL_SIZE; i++) printf("%02x", edgeae_model[i]);
  printf("\\", \\"input\\": [%.9g, %d], \\"embedding\\": [%.9g, %d], ",
         (double)EDGEAE_INPUT_SCALE, EDGEAE_INPUT_ZERO_POINT,
         (double)EDGEAE_EMBEDDING_SCALE, EDGEAE_EMBEDDING_ZERO_POINT);
  printf("\\"reconstruction\\": [%.9g, %d], \\"rows\\": [",
         (double)EDGEAE_RECONSTRUCTION_SCALE, EDGEAE_RECONSTRUCTION_ZERO_POINT);
  while (fread(raw, sizeof raw, 1, stdin) == 1) {
    if (fread(reconstruction, sizeof reconstruction, 1, stdin) != 1) return 1;
    edgeae_quantize_input(raw, input);
    printf("{\\"error\\": %.9g, \\"input\\": [", (double)edgeae_error(raw, reconstruction));
    for (i = 0; i < EDGEAE_INPUT_SIZE; i++) printf("%s%d", i ? "," : "", input[i]);
    printf("]},\\n");
  }
  printf("null]}");
  return 0;
}
"""


@pytest.fixture(scope="module")
def compiled(micro, tmp_path_factory):
    """A function that runs a C program with the exported files on raw rows and reconstructions."""
    compiler = needs("gcc")
    folder = tmp_path_factory.mktemp("c")
    (folder / "main.c").write_text(PROGRAM)
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wno-sign-conversion"]
    files = ["main.c", str(micro.folder / SOURCE), f"-I{micro.folder}", "-lm", "-o", "program"]
    subprocess.run([compiler, *strict, *files], check=True, cwd=folder)

    def run(raw, reconstruction):
        assert raw.dtype == np.float32 and reconstruction.dtype == np.int8
        pairs = b"".join(a.tobytes() + b.tobytes() for a, b in zip(raw, reconstruction, strict=True))
        output = subprocess.run([folder / "program"], input=pairs, check=True, capture_output=True).stdout
        return json.loads(output)

    return run


def test_the_c_constants_are_those_of_the_bundle(micro, compiled):
    found = compiled(micro.raw[:0], np.zeros((0, 1), np.int8))
    artifact = micro.manifest.artifacts[1]
    assert bytes.fromhex(found["model"]) == micro.content
    assert found["alignment"] == 0
    assert np.float32(found["threshold"]) == np.float32(artifact.threshold.value)
    assert found["latent"] == micro.manifest.latent_size
    assert found["scaler"] == len(micro.source.scaler.offset)
    for name, quantization in micro.tensors.items():
        scale, zero_point = found[name]
        assert np.float32(scale) == np.float32(quantization.scale)
        assert zero_point == quantization.zero_point


def test_c_quantizes_and_scores_as_python_does_outliers_too(micro, compiled):
    raw = micro.raw.copy()
    raw[-10:] += np.float32(1e4) * np.where(np.arange(raw.shape[1]) % 2, 1, -1)  # beyond what int8 can say
    scaled = micro.source.scaler.scale(raw.reshape(-1, *micro.rows.shape[1:])).reshape(raw.shape)
    levels = micro.tensors["input"].quantize(scaled)
    assert {-128, 127} <= set(np.unique(levels[-10:]))
    _, copy = in_litert(micro, levels)
    rows = compiled(raw, copy)["rows"][:-1]
    np.testing.assert_array_equal([row["input"] for row in rows], levels)
    error = reconstruction_error(scaled, micro.tensors["reconstruction"].restore(copy))
    np.testing.assert_allclose([row["error"] for row in rows], error, rtol=1e-5)
    assert error[-10:].min() > micro.manifest.artifacts[0].threshold.value


def test_the_header_can_be_read_by_cpp_too(micro, tmp_path):
    compiler = needs("g++")
    (tmp_path / "main.cpp").write_text(
        f'#include "{HEADER}"\nint main() {{ return edgeae_error(nullptr, nullptr) > EDGEAE_THRESHOLD; }}\n'
    )
    strict = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run(
        [compiler, *strict, "-fsyntax-only", f"-I{micro.folder}", tmp_path / "main.cpp"], check=True
    )


def test_the_literals_read_back_as_the_same_float32():
    from edgeae_export.formats.micro import _float

    rng = np.random.default_rng(0)
    values = np.float32(rng.normal(size=500) * 10.0 ** rng.integers(-30, 30, 500))
    for value in (*values, np.float32(0.1), np.float32(3), np.finfo(np.float32).max):
        text = _float(float(value))
        assert text.endswith("f") and ("." in text or "e" in text)
        assert np.float32(text[:-1]) == value
