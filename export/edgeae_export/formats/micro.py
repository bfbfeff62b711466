"""The bare int8 autoencoder as C99 source, for TensorFlow Lite Micro."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edgeae_runtime import Floats, Input, Scaler, Threshold

SOURCE_NAME = "autoencoder.int8.c"
HEADER_NAME = "autoencoder.int8.h"


@dataclass(frozen=True)
class Quantization:
    """``real = (integer - zero_point) * scale`` of one tensor: Jacob et al. 2018, section 2.1."""

    scale: float
    zero_point: int

    def quantize(self, values: Floats) -> NDArray[np.int8]:
        """Return real values as int8, the nearest representable ones."""
        levels = np.round(values / np.float32(self.scale)) + self.zero_point
        clipped: NDArray[np.int8] = np.clip(levels, -128, 127).astype(np.int8)
        return clipped

    def restore(self, levels: NDArray[np.integer[Any]]) -> Floats:
        """Return int8 values as real ones, float32."""
        real: Floats = (levels.astype(np.float32) - self.zero_point) * np.float32(self.scale)
        return real


def quantizations(model: bytes) -> dict[str, Quantization]:
    """Return the quantization of a model's input and output tensors by name."""
    signature: Any = Interpreter(model_content=model).get_signature_runner()
    details = {**signature.get_input_details(), **signature.get_output_details()}
    return {
        name: Quantization(float(d["quantization"][0]), int(d["quantization"][1]))
        for name, d in details.items()
    }


def c_files(
    model: bytes, scaler: Scaler, sample: Input, latent_size: int, threshold: Threshold
) -> dict[str, bytes]:
    """Return header and source by file name.

    Args:
        model: the TFLite model, int8 in and out.
        scaler: from raw to scaled units.
        sample: the input's shape.
        latent_size: values in one embedding.
        threshold: of this model's own errors.
    """
    tensors = quantizations(model)
    numbers = {
        name: f"#define EDGEAE_{name.upper()}_SCALE {_float(q.scale)}\n"
        f"#define EDGEAE_{name.upper()}_ZERO_POINT ({q.zero_point})"
        for name, q in tensors.items()
    }
    header = _HEADER.format(
        input_size=sample.size,
        latent_size=latent_size,
        model_size=len(model),
        scaler_size=len(scaler.offset),
        threshold=_float(threshold.value),
        rule=threshold.rule,
        rows=threshold.rows,
        quantization="\n".join(numbers[name] for name in ("input", "embedding", "reconstruction")),
    )
    source = _SOURCE.format(
        header=HEADER_NAME,
        model=_lines([f"0x{byte:02x}" for byte in model], 16),
        offset=_lines([_float(v) for v in scaler.offset], 6),
        gain=_lines([_float(v) for v in scaler.gain], 6),
    )
    return {HEADER_NAME: header.encode(), SOURCE_NAME: source.encode()}


def _float(value: float) -> str:
    """Return a C literal that reads back as the same float32."""
    return f"{float(np.float32(value)):.9e}f"


def _lines(items: list[str], each: int) -> str:
    return ",\n".join("  " + ", ".join(items[i : i + each]) for i in range(0, len(items), each))


_HEADER = """\
/* Made by edgeae. An int8 autoencoder for TensorFlow Lite Micro, and what surrounds it:
 *
 *   edgeae_quantize_input(raw, interpreter.input(0)->data.int8);
 *   interpreter.Invoke();
 *   error = edgeae_error(raw, reconstruction->data.int8);
 *   alarm = error > EDGEAE_THRESHOLD;
 *
 * The model has two outputs; the reconstruction is the one of EDGEAE_INPUT_SIZE values. */
#ifndef EDGEAE_AUTOENCODER_H
#define EDGEAE_AUTOENCODER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define EDGEAE_INPUT_SIZE {input_size}
#define EDGEAE_LATENT_SIZE {latent_size}
#define EDGEAE_MODEL_SIZE {model_size}
#define EDGEAE_SCALER_SIZE {scaler_size}

/* An error above this is an anomaly; by the rule {rule} on {rows} held-out rows. */
#define EDGEAE_THRESHOLD {threshold}

/* real = (integer - ZERO_POINT) * SCALE */
{quantization}

/* The TFLite model, aligned for the interpreter. */
extern const unsigned char edgeae_model[EDGEAE_MODEL_SIZE];

/* scaled = (raw - offset) * gain; value i of a sample uses entry i % EDGEAE_SCALER_SIZE. */
extern const float edgeae_offset[EDGEAE_SCALER_SIZE];
extern const float edgeae_gain[EDGEAE_SCALER_SIZE];

/* Turn EDGEAE_INPUT_SIZE raw values into the model's input. */
void edgeae_quantize_input(const float *raw, int8_t *input);

/* Mean squared difference between the scaled input and the model's reconstruction. */
float edgeae_error(const float *raw, const int8_t *reconstruction);

#ifdef __cplusplus
}}
#endif

#endif
"""

_SOURCE = """\
/* Made by edgeae; see the header. */
#include "{header}"

#include <math.h>

#if defined(__GNUC__)
#define EDGEAE_ALIGNED __attribute__((aligned(16)))
#else
#define EDGEAE_ALIGNED
#endif

const unsigned char edgeae_model[EDGEAE_MODEL_SIZE] EDGEAE_ALIGNED = {{
{model}}};

const float edgeae_offset[EDGEAE_SCALER_SIZE] = {{
{offset}}};

const float edgeae_gain[EDGEAE_SCALER_SIZE] = {{
{gain}}};

static float scaled(const float *raw, size_t i) {{
  const size_t k = i % EDGEAE_SCALER_SIZE;
  return (raw[i] - edgeae_offset[k]) * edgeae_gain[k];
}}

void edgeae_quantize_input(const float *raw, int8_t *input) {{
  size_t i;
  for (i = 0; i < EDGEAE_INPUT_SIZE; i++) {{
    float level = rintf(scaled(raw, i) / EDGEAE_INPUT_SCALE) + EDGEAE_INPUT_ZERO_POINT;
    if (level < -128.0f) level = -128.0f;
    if (level > 127.0f) level = 127.0f;
    input[i] = (int8_t)level;
  }}
}}

float edgeae_error(const float *raw, const int8_t *reconstruction) {{
  float sum = 0.0f;
  size_t i;
  for (i = 0; i < EDGEAE_INPUT_SIZE; i++) {{
    const float restored =
        (float)(reconstruction[i] - EDGEAE_RECONSTRUCTION_ZERO_POINT) * EDGEAE_RECONSTRUCTION_SCALE;
    const float difference = scaled(raw, i) - restored;
    sum += difference * difference;
  }}
  return sum / EDGEAE_INPUT_SIZE;
}}
"""
