"""The named ways to quantize, per format and precision; the fastest first."""

from edgeae_runtime import EdgeaeError, Recipe
from edgeae_runtime._manifest import Format, Precision

PLAIN = Recipe(
    name="plain",
    calibration="minmax",
    granularity="channel",
    rounding="nearest",
    activations="unsigned",
    float_tensors="none",
)
"""What the tools do by default, applied to the layers alone."""
COMPENSATED = Recipe(
    name="compensated",
    calibration="minmax",
    granularity="channel",
    rounding="compensated",
    activations="unsigned",
    float_tensors="code",
)
PERCENTILE = Recipe(
    name="percentile",
    calibration="percentile",
    granularity="channel",
    rounding="compensated",
    activations="unsigned",
    float_tensors="code",
)
CAREFUL = Recipe(
    name="careful",
    calibration="minmax",
    granularity="channel",
    rounding="compensated",
    activations="unsigned",
    float_tensors="ends",
)
"""For convolutions, whose last layers are small in weights and large in what they compute."""
ENTROPY = Recipe(
    name="entropy",
    calibration="entropy",
    granularity="channel",
    rounding="compensated",
    activations="unsigned",
    float_tensors="code",
)
SIGNED = Recipe(
    name="signed",
    calibration="minmax",
    granularity="channel",
    rounding="compensated",
    activations="signed",
    float_tensors="code",
)
PER_TENSOR = Recipe(
    name="per-tensor",
    calibration="minmax",
    granularity="tensor",
    rounding="nearest",
    activations="unsigned",
    float_tensors="code",
)
MICRO = Recipe(
    name="micro",
    calibration="minmax",
    granularity="channel",
    rounding="compensated",
    activations="signed",
    float_tensors="none",
)
"""Every tensor int8, input and outputs too: a microcontroller has no float kernels to fall back on."""
DYNAMIC_PLAIN = Recipe(
    name="dynamic-plain",
    calibration=None,
    granularity="channel",
    rounding="nearest",
    activations="unsigned",
    float_tensors="code",
)
DYNAMIC = Recipe(
    name="dynamic",
    calibration=None,
    granularity="channel",
    rounding="compensated",
    activations="unsigned",
    float_tensors="code",
)

AUTO: dict[tuple[Format, Precision], tuple[Recipe, ...]] = {
    ("onnx", "int8"): (COMPENSATED, PERCENTILE, PLAIN, CAREFUL),
    ("onnx", "dynamic"): (DYNAMIC, DYNAMIC_PLAIN),
    ("tflite", "int8"): (COMPENSATED, PLAIN, CAREFUL),
    ("tflite", "dynamic"): (DYNAMIC, DYNAMIC_PLAIN),
}
"""What ``--recipe auto`` tries. The first one that uses less than half of what the limit on the error allows
is taken; where there is none, the most faithful. ``careful`` is the slowest and therefore the last."""

BY_NAME_ONLY: dict[tuple[Format, Precision], tuple[Recipe, ...]] = {
    ("onnx", "int8"): (ENTROPY, SIGNED, PER_TENSOR),
}
"""Seldom better, much slower on some processors, or slow to calibrate; to be asked for."""


class RecipeError(EdgeaeError):
    """No recipe of that name for what is exported."""


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
