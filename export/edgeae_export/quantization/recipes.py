"""The named ways to quantize, per format and precision; the fastest first."""

from msgspec.structs import replace

from edgeae_runtime import Recipe
from edgeae_runtime.names import Format, Precision

from ..errors import RecipeError

COMPENSATED = Recipe(
    name="compensated",
    calibration="minmax",
    granularity="channel",
    rounding="compensated",
    activations="unsigned",
    float_tensors="code",
)
PERCENTILE = replace(COMPENSATED, name="percentile", calibration="percentile")
ENTROPY = replace(COMPENSATED, name="entropy", calibration="entropy")
SIGNED = replace(COMPENSATED, name="signed", activations="signed")
DYNAMIC = replace(COMPENSATED, name="dynamic", calibration=None)
DYNAMIC_PLAIN = replace(DYNAMIC, name="dynamic-plain", rounding="nearest")
PER_TENSOR = replace(COMPENSATED, name="per-tensor", granularity="tensor", rounding="nearest")
STATIC = replace(COMPENSATED, name="static", float_tensors="none")
"""A layer whose output is left in float takes its input's range at run time. On a Cortex-A76 LiteRT needs a
fifth more instructions for a model with three such layers than for one with calibrated ranges throughout."""
PLAIN = replace(COMPENSATED, name="plain", rounding="nearest", float_tensors="none")
"""The tools' own defaults, applied to the layers alone."""
CAREFUL = replace(COMPENSATED, name="careful", float_tensors="ends")
"""For convolutions, whose last layers are small in weights and large in what they compute."""
MICRO = replace(COMPENSATED, name="micro", activations="signed", float_tensors="none")
"""Every tensor int8, input and outputs too: a microcontroller has no float kernels to fall back on."""

AUTO: dict[tuple[Format, Precision], tuple[Recipe, ...]] = {
    ("onnx", "int8"): (COMPENSATED, PERCENTILE, PLAIN, CAREFUL),
    ("onnx", "dynamic"): (DYNAMIC, DYNAMIC_PLAIN),
    ("tflite", "int8"): (STATIC, COMPENSATED, PLAIN, CAREFUL),
    ("tflite", "dynamic"): (DYNAMIC, DYNAMIC_PLAIN),
}
"""Recipes that ``--recipe auto`` tries. The first one that uses less than half of what the limit on the error
allows is taken; where there is none, the most faithful. ``careful`` is the slowest and therefore the last."""

BY_NAME_ONLY: dict[tuple[Format, Precision], tuple[Recipe, ...]] = {
    ("onnx", "int8"): (ENTROPY, SIGNED, PER_TENSOR),
}
"""Seldom better, much slower on some processors, or slow to calibrate; to be asked for."""


def recipes_for(file_format: Format, precision: Precision, name: str) -> tuple[Recipe, ...]:
    """Return the recipes to try: those of ``auto``, or the one called ``name`` where this kind has it."""
    kind = (file_format, precision)
    known = AUTO.get(kind, ()) + BY_NAME_ONLY.get(kind, ())
    return tuple(r for r in known if r.name == name) or AUTO.get(kind, ())


def check_recipe(name: str, kinds: list[tuple[Format, Precision]]) -> None:
    """Refuse a name that none of the kinds has.

    Raises:
        RecipeError: with the names to choose from.
    """
    known = {r.name for kind in kinds for r in AUTO.get(kind, ()) + BY_NAME_ONLY.get(kind, ())}
    if name != "auto" and name not in known:
        choices = ", ".join(sorted(known)) or "none, since nothing is quantized"
        raise RecipeError(f"no recipe {name!r} for these formats and precisions; choose auto or: {choices}")
