from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from msgspec import structs

from edgeae_export import Limits, export
from edgeae_export.builder import ArtifactBuilder, Options
from edgeae_export.errors import RecipeError
from edgeae_export.fidelity.candidate import Candidate
from edgeae_export.fidelity.limits import DEFAULT_LIMITS
from edgeae_export.quantization.recipes import AUTO, BY_NAME_ONLY, MICRO, check_recipe, recipes_for
from edgeae_runtime import EngineError, load

KINDS = [(kind, precision) for kind in ("onnx", "tflite") for precision in ("int8", "dynamic")]


# --- names ---------------------------------------------------------------------------------------


def test_the_recipes_that_are_documented():
    assert {kind: [r.name for r in recipes] for kind, recipes in AUTO.items()} == {
        ("onnx", "int8"): ["compensated", "percentile", "plain", "careful"],
        ("onnx", "dynamic"): ["dynamic", "dynamic-plain"],
        ("tflite", "int8"): ["static", "compensated", "plain", "careful"],
        ("tflite", "dynamic"): ["dynamic", "dynamic-plain"],
    }
    assert [r.name for r in BY_NAME_ONLY["onnx", "int8"]] == ["entropy", "signed", "per-tensor"]


def test_a_name_means_one_recipe():
    every = [r for table in (AUTO, BY_NAME_ONLY) for recipes in table.values() for r in recipes] + [MICRO]
    by_name = {recipe.name: recipe for recipe in every}
    assert all(recipe == by_name[recipe.name] for recipe in every)
    settings = [replace_name(recipe) for recipe in by_name.values()]
    assert all(settings.count(each) == 1 for each in settings)


def replace_name(recipe):
    return {field: getattr(recipe, field) for field in recipe.__struct_fields__ if field != "name"}


@pytest.mark.parametrize("kind", KINDS)
def test_auto_tries_those_of_auto_and_a_name_tries_that_one(kind):
    assert recipes_for(*kind, "auto") == AUTO[kind]
    for recipe in AUTO[kind] + BY_NAME_ONLY.get(kind, ()):
        assert recipes_for(*kind, recipe.name) == (recipe,)


def test_a_name_that_one_of_the_kinds_lacks_leaves_it_to_auto():
    assert recipes_for("tflite", "int8", "entropy") == AUTO["tflite", "int8"]
    check_recipe("entropy", [("tflite", "int8"), ("onnx", "int8")])


@pytest.mark.parametrize(
    ("kinds", "choices"),
    [
        ([("tflite", "int8")], "careful, compensated, plain, static"),
        ([("onnx", "int8")], "careful, compensated, entropy, per-tensor, percentile, plain, signed"),
        ([("onnx", "dynamic"), ("onnx", "float32")], "dynamic, dynamic-plain"),
        ([("onnx", "float32"), ("tflite", "float16")], "none, since nothing is quantized"),
    ],
)
def test_an_unknown_name_is_told_with_those_to_choose_from(kinds, choices):
    with pytest.raises(RecipeError) as caught:
        check_recipe("best", kinds)
    assert str(caught.value) == (
        f"no recipe 'best' for these formats and precisions; choose auto or: {choices}"
    )


def test_an_unknown_name_is_refused_before_anything_is_made(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(ArtifactBuilder, "make", None)
    models = (digits.source.encoder, digits.source.decoder)
    with pytest.raises(RecipeError, match="no recipe 'best'"):
        export(models, digits.source.rows.reshape(-1, 64), tmp_path / "x.edgeae", recipe="best")
    assert list(tmp_path.iterdir()) == []


# --- what they do --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(digits, tmp_path_factory):
    """A function that exports the digits with a recipe by name; each one once."""
    made = {}

    def by_name(recipe):
        if recipe not in made:
            folder = tmp_path_factory.mktemp("recipes") / f"{recipe}.edgeae"
            models = (digits.source.encoder, digits.source.decoder)
            rows = digits.source.scaler.scale(digits.source.rows).reshape(-1, 64)
            loose = {"int8": Limits(0.1, 0.9, 0.9)}
            settings = {"formats": ("onnx",), "precisions": ("int8",), "recipe": recipe, "limits": loose}
            made[recipe] = SimpleNamespace(
                manifest=export(models, rows, folder, **settings), folder=folder, rows=rows
            )
        return made[recipe]

    return by_name


NAMES = [
    pytest.param(recipe.name, marks=() if recipe.name in ("compensated", "signed") else pytest.mark.slow)
    for recipe in (*AUTO["onnx", "int8"], *BY_NAME_ONLY["onnx", "int8"])
]


@pytest.mark.parametrize("name", NAMES)
def test_a_forced_recipe_is_the_only_one_tried_and_is_in_the_manifest(exported, name):
    (recipe,) = recipes_for("onnx", "int8", name)
    found = exported(name)
    assert [artifact.recipe for artifact in found.manifest.artifacts] == [recipe] * 3
    scorer = found.manifest.find("scorer", "int8", "onnx")
    (trial,) = scorer.trials
    assert trial.recipe == name
    assert trial.error_median == scorer.fidelity.error_median
    assert trial.rank_correlation == scorer.fidelity.rank_correlation
    device = load(found.folder, engine="onnxruntime", precision="int8")
    assert np.isfinite(device.score(found.rows)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_does_what_it_says_to_the_graph(exported, name):
    (recipe,) = recipes_for("onnx", "int8", name)
    graph = onnx.load(exported(name).folder / "scorer.int8.onnx").graph
    constants = {c.name: c for c in graph.initializer}
    rounding = [n for n in graph.node if n.op_type == "QuantizeLinear"]
    kinds = {constants[n.input[2]].data_type for n in rounding}
    signed = {"signed": onnx.TensorProto.INT8, "unsigned": onnx.TensorProto.UINT8}
    assert kinds == {signed[recipe.activations]}
    reader = {name: n for n in graph.node for name in n.input}
    kinds = ("DequantizeLinear", "Cast")  # a Cast and a Mul where the layer computes in float
    weights = [n for n in graph.node if n.op_type in kinds and len(constants_of(n, constants)) == 2]
    assert len(weights) == 4
    scales = [n.input[1] if n.op_type != "Cast" else reader[n.output[0]].input[1] for n in weights]
    assert [np.prod(constants[name].dims) == 1 for name in scales] == [recipe.granularity == "tensor"] * 4
    # with float ends the last layer's input stays as it is, with a float code the embedding does too
    assert len(rounding) == {"none": 4, "code": 3, "ends": 2}[recipe.float_tensors]


def constants_of(node, constants):
    """The shape of what a node restores, where that is a constant."""
    return tuple(constants[node.input[0]].dims) if node.input[0] in constants else ()


@pytest.mark.slow
def test_calibrations_find_other_ranges(exported):
    def scales(name):
        graph = onnx.load(exported(name).folder / "scorer.int8.onnx").graph
        constants = {c.name: c for c in graph.initializer}
        rounding = [n for n in graph.node if n.op_type == "QuantizeLinear"]
        return [float(onnx.numpy_helper.to_array(constants[n.input[1]])) for n in rounding]

    most, nearly_all, entropy = (np.array(scales(n)) for n in ("compensated", "percentile", "entropy"))
    assert (nearly_all <= most * 1.001).all()
    assert (nearly_all < most * 0.9999).all()
    assert not np.allclose(entropy, most, rtol=1e-3)


# --- the choice ----------------------------------------------------------------------------------


@pytest.fixture
def choose(digits, monkeypatch):
    """A function that has the builder choose among recipes of given errors, and what it noted."""
    builder = ArtifactBuilder(digits.source, Options())
    made = []

    def choose(errors, limit=0.01, *, spoiled=()):
        limits = {**DEFAULT_LIMITS, "int8": Limits(limit, 0.0, 0.0)}
        builder.options = replace(builder.options, limits=limits)
        template = builder.make("decoder", "float32", "onnx").artifact

        def judge(role, precision, file_format, content, recipe=None, trials=()):
            made.append(recipe.name)
            if recipe.name in spoiled:
                raise EngineError(f"litert cannot load the {role}")
            fidelity = structs.replace(template.fidelity, error_median=errors[recipe.name])
            artifact = structs.replace(template, recipe=recipe, fidelity=fidelity)
            return Candidate(artifact, b"", limits["int8"].violations(fidelity), {})

        monkeypatch.setattr(builder, "_quantized", lambda *rest: b"")
        monkeypatch.setattr(builder, "_judge", judge)
        recipe, trials = builder._choose("int8", "tflite")
        return recipe.name, [(t.recipe, t.error_median) for t in trials]

    return choose


@pytest.mark.parametrize(
    ("static", "compensated", "plain", "careful", "chosen"),
    [
        (0.005, 0.004, 0.003, 0.001, "static"),  # the first that uses less than half of the limit
        (0.02, 0.004, 0.003, 0.001, "compensated"),
        (0.02, 0.005, 0.003, 0.001, "compensated"),
        (0.006, 0.006, 0.003, 0.001, "plain"),
        (0.02, 0.006, 0.007, 0.001, "careful"),
        (0.007, 0.006, 0.009, 0.007, "compensated"),  # none does: the most faithful
        (0.02, 0.009, 0.006, 0.008, "plain"),
        (0.02, 0.011, 0.5, 0.009, "careful"),  # one passes
        (0.04, 0.03, 0.02, 0.05, "plain"),  # none passes: the most faithful is the one to be refused
    ],
)
def test_the_first_with_room_to_spare_is_chosen_or_else_the_most_faithful(
    choose, static, compensated, plain, careful, chosen
):
    errors = {"static": static, "compensated": compensated, "plain": plain, "careful": careful}
    assert choose(errors) == (chosen, list(errors.items()))


def test_the_limit_decides_what_is_room_to_spare(choose):
    errors = {"static": 0.02, "compensated": 0.006, "plain": 0.02, "careful": 0.004}
    assert choose(errors, limit=0.02)[0] == "compensated"


def test_a_mixture_that_the_engine_does_not_run_is_passed_over(choose):
    errors = {"static": 0.02, "compensated": 0.001, "plain": 0.002, "careful": 0.003}
    tried = [(name, error) for name, error in errors.items() if name != "compensated"]
    assert choose(errors, spoiled=("compensated",)) == ("plain", tried)


def test_where_the_engine_runs_none_that_is_told(choose):
    with pytest.raises(EngineError, match="litert cannot load the scorer"):
        choose({}, spoiled=("static", "compensated", "plain", "careful"))


@pytest.mark.slow
def test_auto_notes_every_trial_and_keeps_to_the_rule(exported):
    scorer = exported("auto").manifest.find("scorer", "int8", "onnx")
    trials = {trial.recipe: trial.error_median for trial in scorer.trials}
    assert list(trials) == [recipe.name for recipe in AUTO["onnx", "int8"]]
    assert len(set(trials.values())) > 1
    ample = [name for name, error in trials.items() if error <= 0.05]  # of the loose limit here
    assert scorer.recipe.name == ample[0]
    assert trials[scorer.recipe.name] == scorer.fidelity.error_median
    for name, error in trials.items():  # what was noted is what that recipe gives alone
        alone = exported(name).manifest.find("scorer", "int8", "onnx")
        assert alone.fidelity.error_median == pytest.approx(error, rel=1e-6)
    for role in ("encoder", "decoder"):
        artifact = exported("auto").manifest.find(role, "int8", "onnx")
        assert artifact.recipe == scorer.recipe
        assert artifact.trials == ()
