"""The named ways to quantize, per format and precision; the fastest first."""

from edgeae_runtime import EdgeaeError, Recipe
from edgeae_runtime._manifest import Format, Precision

PLAIN = Recipe(
    name="plain",
    calibration="minmax",
    granularity="channel",
    rounding="nearest",
    activations="unsigned",
    float_code=False,
)
"""What the tools do by default, applied to the layers alone."""
COMPENSATED = Recipe(
    name="compensated",
    calibration="minmax",
    granularity="channel",
    rounding="compensated",
    activations="unsigned",
    float_code=True,
)
PERCENTILE = Recipe(
    name="percentile",
    calibration="percentile",
    granularity="channel",
    rounding="compensated",
    activations="unsigned",
    float_code=True,
)
ENTROPY = Recipe(
    name="entropy",
    calibration="entropy",
    granularity="channel",
    rounding="compensated",
    activations="unsigned",
    float_code=True,
)
SIGNED = Recipe(
    name="signed",
    calibration="minmax",
    granularity="channel",
    rounding="compensated",
    activations="signed",
    float_code=True,
)
PER_TENSOR = Recipe(
    name="per-tensor",
    calibration="minmax",
    granularity="tensor",
    rounding="nearest",
    activations="unsigned",
    float_code=True,
)
MICRO = Recipe(
    name="micro",
    calibration="minmax",
    granularity="channel",
    rounding="compensated",
    activations="signed",
    float_code=False,
)
"""Every tensor int8, input and outputs too: a microcontroller has no float kernels to fall back on."""
DYNAMIC_PLAIN = Recipe(
    name="dynamic-plain",
    calibration=None,
    granularity="channel",
    rounding="nearest",
    activations="unsigned",
    float_code=True,
)
DYNAMIC = Recipe(
    name="dynamic",
    calibration=None,
    granularity="channel",
    rounding="compensated",
    activations="unsigned",
    float_code=True,
)

AUTO: dict[tuple[Format, Precision], tuple[Recipe, ...]] = {
    ("onnx", "int8"): (PLAIN, COMPENSATED, PERCENTILE),
    ("onnx", "dynamic"): (DYNAMIC_PLAIN, DYNAMIC),
    ("tflite", "int8"): (PLAIN, COMPENSATED),
    ("tflite", "dynamic"): (DYNAMIC_PLAIN, DYNAMIC),
}
"""What ``--recipe auto`` tries. The order is that of speed: where two are as faithful, the first wins."""

BY_NAME_ONLY: dict[tuple[Format, Precision], tuple[Recipe, ...]] = {
    ("onnx", "int8"): (ENTROPY, SIGNED, PER_TENSOR),
}
"""Seldom better, much slower on some processors, or slow to calibrate; to be asked for."""

TIE = 1.1
"""Two recipes tie where neither moves the error by more than this factor of the other."""


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
