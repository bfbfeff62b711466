"""What is public, and that everything of 0.1.0 still is."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

import edgeae_runtime

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted(path for path in (ROOT / "examples").rglob("*") if path.is_file())

PUBLIC = {
    "edgeae": """
        Arch Autoencoder BundleError Compression Curve Data DataError Detected Downstream EdgeaeError
        EdgeaeWarning EngineError ErrorFigures Evaluation FidelityError Found Loss ModelError NoiseKind
        Objective OutputError RecipeError ResumeError RuleError RunError Samples ScalerKind
        SettingsError Sparsity TrainConfig Trained TrainingError Usefulness __version__ evaluate
        load_data train write_report
    """,
    "edgeae_export": """
        BundleError DEFAULT_LIMITS DataError EdgeaeError EdgeaeWarning EngineError FidelityError Format
        Limits Manifest ModelError OutputError Precision RecipeError RuleError RunError Scaler
        SettingsError Source __version__ export
    """,
    "edgeae_runtime": """
        Alarm Artifact Autoencoder Bundle BundleError Check DataError Detection Detector Drift
        EdgeaeError EdgeaeWarning EngineError EngineName Fidelity FidelityError Floats Format Input
        Manifest OutputError Precision PrecisionName Recipe Role RuleError Scaler SettingsError Stream
        StreamResult Threshold Trial __version__ load new_threshold read_threshold reconstruction_error udf
        verify watch windows write_threshold
    """,
}
"""All names, by package. A new one is added here; one that is gone breaks somebody's code."""

NAMES_OF_0_1_0 = {
    "edgeae": """
        Autoencoder TrainConfig Trained __version__ load_data train
    """,
    "edgeae_export": """
        Limits __version__ export
    """,
    "edgeae_runtime": """
        Alarm Artifact Autoencoder Bundle BundleError Check DataError Detection Drift EdgeaeError
        EngineError Fidelity FidelityError Input Manifest OutputError Recipe Scaler Stream StreamResult
        Threshold Trial __version__ load new_threshold read_threshold reconstruction_error verify
        windows write_threshold
    """,
}

OPTIONS_OF_0_1_0 = {
    "bench": """
        BUNDLE --against --json --plot --threads --batch --seconds
    """,
    "demo": """
        --out --force
    """,
    "embed": """
        BUNDLE DATA -o --out --format --engine --precision --threads
    """,
    "evaluate": """
        MODEL DATA --labels --label-column --normal --fit-data --threshold --seed --noise --json
    """,
    "export": """
        MODEL --out --data --encoder --decoder --latent-layer --raw-range --formats --precisions
        --recipe --threshold --labels --max-error-change --min-rank-correlation --min-cosine --zip
        --keep-passing --force
    """,
    "info": """
        BUNDLE --json
    """,
    "recalibrate": """
        BUNDLE DATA --last --quantile --engine --precision --reset --json
    """,
    "report": """
        RUN --out --data --bundle --labels --label-column --normal --fit-data --threshold --seed --force
    """,
    "score": """
        BUNDLE DATA -o --out --format --engine --precision --threads
    """,
    "train": """
        DATA --columns --label-column --normal --window --stride --out --arch --hidden --latent
        --objective --loss --noise --noise-kind --sparsity --sparsity-target --sparsity-weight
        --contractive-weight --kl-weight --laplacian --l2 --max-norm --tied --scaler --epochs
        --batch-size --validation-split --patience --learning-rate --seed --resume --force
    """,
    "tune": """
        BUNDLE --json --threads --rows
    """,
    "verify": """
        BUNDLE --json --threads
    """,
    "watch": """
        BUNDLE --follow --mqtt --topic --publish --ca-file --credentials --home-assistant --state
        --threshold --alarm-needed --alarm-among --alarm-release --alarm-refractory --alarm-warm-up
        --drift-memory --hold --embedding --metrics-port --engine --precision
    """,
}
"""Arguments, in capitals and in order, and options of every command."""

CHOICES_OF_0_1_0 = {
    "embed --format": "npy csv jsonl parquet",
    "embed --engine": "auto onnxruntime litert ray",
    "embed --precision": "auto float32 float16 dynamic int8",
    "evaluate --noise": "gaussian masking salt-and-pepper none",
    "export --formats": "onnx tflite c",
    "export --precisions": "float32 float16 dynamic int8",
    "recalibrate --engine": "auto onnxruntime litert",
    "recalibrate --precision": "auto float32 float16 dynamic int8",
    "score --format": "npy csv jsonl parquet",
    "score --engine": "auto onnxruntime litert ray",
    "score --precision": "auto float32 float16 dynamic int8",
    "train --arch": "dense conv1d conv2d lstm",
    "train --objective": "plain denoising sparse contractive variational",
    "train --loss": "mse bce mae",
    "train --noise-kind": "gaussian masking salt-and-pepper",
    "train --sparsity": "l1 kl",
    "train --scaler": "minmax standard",
    "watch --engine": "auto onnxruntime litert",
    "watch --precision": "auto float32 float16 dynamic int8",
}
"""What an option can be, where it is one of a few words."""

RUN_OF_0_1_0 = {"autoencoder.keras", "history.csv", "holdout.npy", "loss.png", "posterior.keras", "run.json"}
"""Files of a run folder; a variational one, which has all of them."""

BUNDLE_OF_0_1_0 = {"manifest.json", "golden.npz"} | {
    f"{role}.{precision}.{suffix}"
    for role in ("encoder", "decoder", "scorer")
    for precision in ("float32", "int8")
    for suffix in ("onnx", "tflite")
}
"""Files of a bundle, with the formats and precisions that are made by default."""


def named(table, package):
    return table[package].split()


# --- what is public ------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PUBLIC)
def test_what_dir_shows_is_what_is_public_and_all_of_it_is_there(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == named(PUBLIC, package)
    assert dir(module) == named(PUBLIC, package)
    for name in module.__all__:
        assert getattr(module, name) is getattr(module, name)
    assert dir(module) == named(PUBLIC, package), "what was used shows up beside what is public"


@pytest.mark.parametrize("package", PUBLIC)
def test_a_name_that_is_not_public_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        importlib.import_module(package).nothing  # noqa: B018


def errors_below(base):
    """Names of all errors and warnings that the three packages define, by that of their base."""
    house = [cls for cls in base.__subclasses__() if cls.__module__.partition(".")[0] in PUBLIC]
    return {cls.__name__: base.__name__ for cls in house} | {
        name: above for cls in house for name, above in errors_below(cls).items()
    }


def test_the_tree_of_errors_is_drawn_as_it_is_and_every_error_is_public_where_it_is_raised():
    for package, folder in {
        "edgeae": "edgeae",
        "edgeae_export": "export/edgeae_export",
        "edgeae_runtime": "runtime/edgeae_runtime",
    }.items():
        for path in (ROOT / folder).rglob("*.py"):
            if re.search(r"^class \w+\(.*(Error|Warning)\b", path.read_text(encoding="utf-8"), re.MULTILINE):
                inside = path.relative_to(ROOT / folder).with_suffix("").parts
                importlib.import_module(".".join([package, *inside]))
    drawn, above = {}, []
    for indent, name in re.findall(r"^( +)(\w+)(?:  .*)?$", inspect.getdoc(edgeae_runtime.EdgeaeError), re.M):
        depth = len(indent) // 2 - 2
        above = [*above[:depth], name]
        if depth:
            drawn[name] = above[depth - 1]
    found = {"EdgeaeError": "Exception", "EdgeaeWarning": "UserWarning"}
    found |= errors_below(edgeae_runtime.EdgeaeError) | errors_below(edgeae_runtime.EdgeaeWarning)
    assert drawn == found
    assert found.keys() <= {*named(PUBLIC, "edgeae")}
    for name in found:
        home = importlib.import_module("edgeae").__getattr__(name).__module__.partition(".")[0]
        assert name in named(PUBLIC, home)


@pytest.mark.parametrize("package", PUBLIC)
def test_importing_a_package_imports_nothing_that_takes_long(package):
    heavy = ("numpy", "msgspec", "tensorflow", "onnxruntime", "sklearn")
    script = f"import sys, {package}; dir({package}); print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def mypy(tmp_path):
    """A function that checks a user's text, and returns the errors."""

    def check(*lines):
        (tmp_path / "mine.py").write_text("\n".join([*lines, ""]))
        words = [
            "--strict",
            "--no-error-summary",
            "--cache-dir",
            str(ROOT / ".cache/mypy-of-a-user"),
            "mine.py",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "mypy", *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.stderr == ""
        return [line for line in done.stdout.splitlines() if " error: " in line]

    return check


@pytest.mark.slow
def test_type_checkers_see_every_public_name(mypy):
    lines = [
        f"from {package} import {name} as {package}_{name.strip('_')}"
        for package in PUBLIC
        for name in named(PUBLIC, package)
    ]
    lines += [
        "from edgeae_runtime import Autoencoder, Detection, Detector, load, udf",
        "def one(detector: Detector) -> Detection:",
        "    return detector.detect([1.0])",
        "def old(path: str) -> Autoencoder:",
        "    return load(path, engine='litert')",
        "def batches(path: str) -> udf.Scorer:",
        "    return udf.scorer(path)",
    ]
    lines += [
        "from edgeae_runtime.watch import Delivered, Post, Sink, WatchConfig, run",
        "class Mine(Sink):",
        "    ready = True",
        "    ahead = 9",
        "    def start(self, post: Post) -> None:",
        "        self._post = post",
        "    def publish(self, result: bytes) -> int:",
        "        self._post(Delivered((1,)))",
        "        return 1",
        'run("pump.edgeae", WatchConfig(alarm_needed=3), sink=Mine())',
    ]
    assert mypy(*lines) == []
    wrong = mypy("from edgeae import nothing", "from edgeae_runtime import load", "load(3)")
    assert len(wrong) == 2


@pytest.mark.slow
def test_type_checkers_refuse_a_misspelt_event_and_a_misspelt_setting_of_a_watch(mypy):
    right = [
        "from typing import assert_never",
        "from edgeae_runtime import watch",
        "watch.run('pump.edgeae', watch.WatchConfig(alarm_needed=3))",
        "def hand_over(post: watch.Post, event: watch.Event) -> None:",
        "    post(watch.Retried('no answer'))",
        "    match event:",
        "        case watch.Retried(reason):",
        "            print(reason)",
    ]
    assert mypy(*right) == []
    wrong = {
        "watch.WatchConfig(alarm_neded=3)": 'argument "alarm_neded" for "WatchConfig"',
        "watch.WatchConfig(alarm_needed='3')": 'expected "int"',
        "watch.run('pump.edgeae', alarm_needed=3)": 'argument "alarm_needed" for "run"',
        "def f(post: watch.Post) -> object: return post('retried')": 'incompatible type "str"',
        "def g(post: watch.Post) -> object: return post(watch.Retired('x'))": 'no attribute "Retired"',
        "def h(post: watch.Post) -> object: return post(watch.Retried('x', 3))": "Too many arguments",
        "def i(post: watch.Post) -> object: return post(watch.Delivered(1))": "incompatible type",
    }
    unhandled = [
        "        case watch.Retired():",
        "            pass",
        "        case _:",
        "            assert_never(event)",
    ]
    found = mypy(*right, *unhandled, *wrong)
    assert len(found) == len(wrong) + 2
    for number, error in enumerate(wrong.values(), len(right) + len(unhandled) + 1):
        assert any(line.startswith(f"mine.py:{number}: error: ") and error in line for line in found), error
    assert 'no attribute "Retired"' in found[0] and "assert_never" in found[1]


# --- what documents and examples use -------------------------------------------------------------


def used_in(path):
    """(package, name) for each name of the three packages that a text imports or uses."""
    text = path.read_text(encoding="utf-8")
    packages = "|".join(PUBLIC)
    used = set(re.findall(rf"(?<![\w./-])({packages})\.(\w+)", text))
    for package, names in re.findall(rf"^\s*from ({packages}) import (.+)$", text, re.MULTILINE):
        used |= {(package, name.split(" as ")[0].strip()) for name in names.strip("()").split(",")}
    return used


def test_documents_and_examples_use_what_is_public_alone():
    private, seen = [], set()
    for path in [*PAGES, *EXAMPLES]:
        text = path.read_text(encoding="utf-8")
        private += re.findall(r"\bedgeae(?:_export|_runtime)?(?:\.\w+)*\._[a-z]\w*", text)
        private += re.findall(r"^\s*from edgeae.* import _[a-z]\w*", text, re.MULTILINE)
        seen |= used_in(path)
    unknown = [(package, name) for package, name in seen if name not in named(PUBLIC, package)]
    assert private == [] and unknown == []
    assert {("edgeae", "evaluate"), ("edgeae_export", "export"), ("edgeae_runtime", "udf")} <= seen


@pytest.mark.parametrize("package", PUBLIC)
def test_docstrings_of_what_is_public_name_nothing_private(package):
    module = importlib.import_module(package)
    for name in named(PUBLIC, package):
        said = inspect.getdoc(getattr(module, name)) or ""
        assert not re.search(r"\bedgeae\w*\._[a-z]", said), name


# --- what 0.1.0 had ------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PUBLIC)
def test_every_name_of_the_first_version_is_there(package):
    module = importlib.import_module(package)
    assert [name for name in named(NAMES_OF_0_1_0, package) if not hasattr(module, name)] == []


@pytest.mark.parametrize("name", OPTIONS_OF_0_1_0)
def test_every_command_of_the_first_version_takes_what_it_took(name):
    (entry,) = entry_points(group="edgeae.commands", name=name)
    command = entry.load()
    options = {word for one in command.params if one.param_type_name == "option" for word in one.opts}
    arguments = [one.name.upper() for one in command.params if one.param_type_name == "argument"]
    before = named(OPTIONS_OF_0_1_0, name)
    assert {word for word in before if word.startswith("-")} - options == set()
    assert arguments == [word for word in before if not word.startswith("-")]


@pytest.mark.parametrize("option", CHOICES_OF_0_1_0)
def test_every_option_of_the_first_version_takes_the_words_it_took(option):
    name, word = option.split()
    (entry,) = entry_points(group="edgeae.commands", name=name)
    command = entry.load()
    (parameter,) = (one for one in command.params if word in one.opts)
    for value in named(CHOICES_OF_0_1_0, option):
        assert value in parameter.type.convert(value, parameter, click.Context(command))


def test_a_bundle_of_the_first_version_has_its_files_and_loads(tmp_path):
    tiny = ROOT / "tests/runtime/tiny.edgeae"
    assert {path.name for path in tiny.iterdir()} >= BUNDLE_OF_0_1_0
    for name in BUNDLE_OF_0_1_0:  # without the digest, which came later
        os.link(tiny / name, tmp_path / name)
    bundle = edgeae_runtime.Bundle(tmp_path)
    assert {check.status for check in edgeae_runtime.verify(bundle)} == {"ok"}


@pytest.mark.slow
def test_runs_and_bundles_hold_the_files_of_the_first_version_and_all_steps_are_public(tmp_path):
    import edgeae
    import edgeae_export

    data = edgeae.load_data("digits")
    config = edgeae.TrainConfig(objective="variational", kl_weight=0.01, latent=16, epochs=8)
    edgeae.train(data, config).save(str(tmp_path / "digits.run"))
    assert {path.name for path in (tmp_path / "digits.run").iterdir()} >= RUN_OF_0_1_0
    edgeae_export.export(tmp_path / "digits.run", None, tmp_path / "digits.edgeae")
    assert {path.name for path in (tmp_path / "digits.edgeae").iterdir()} >= BUNDLE_OF_0_1_0
    found = edgeae.evaluate(tmp_path / "digits.edgeae", data.values[:200], noise=())
    assert isinstance(found, edgeae.Evaluation) and found.rows == 200
    size = edgeae.write_report(str(tmp_path / "digits.run"), str(tmp_path / "page.html"), noise=())
    assert size == (tmp_path / "page.html").stat().st_size
    with pytest.raises(edgeae.DataError):
        edgeae.load_data(tmp_path / "nothing.csv")
