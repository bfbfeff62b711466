import json
import math
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Annotated, get_args

import click
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from edgeae import TrainConfig
from edgeae.cli.train import train
from edgeae.models.architectures import ARCHITECTURES, Arch
from edgeae_export.config import ExportConfig
from edgeae_export.source import Run
from edgeae_runtime import DataError
from edgeae_runtime.cli import chosen, setting_options
from edgeae_runtime.cli.main import Commands, main
from edgeae_runtime.errors import Argument, EdgeaeError, EdgeaeWarning
from edgeae_runtime.settings import SettingsError, check, read_settings, settings


class Larger(TrainConfig, frozen=True, kw_only=True):
    """Settings with one more, as the next version may have."""

    depth: Annotated[
        Annotated[int, msgspec.Meta(ge=2, lt=9)] | None,
        msgspec.Meta(description="How deep.", extra={"derived": "as deep as it is wide"}),
    ] = None
    rate: Annotated[float, msgspec.Meta(gt=0, le=4, description="How fast.")] = 0.5


@click.command()
@setting_options(Larger, "train")
def larger(**given):
    click.echo(msgspec.json.encode(chosen(Larger, "train", given)))


def run(*words):
    """What the command with one more setting makes of its options."""
    done = CliRunner().invoke(larger, [str(word) for word in words])
    if isinstance(done.exception, EdgeaeError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return msgspec.json.decode(done.stdout, type=Larger)


def write(folder, text, name="settings.toml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# --- a setting is said once ----------------------------------------------------------------------


def test_a_new_field_is_an_option_with_its_range_help_and_default():
    text = " ".join(CliRunner().invoke(larger, ["--help"]).output.split())
    assert "--depth INTEGER RANGE How deep. [default: as deep as it is wide] [2<=x<9]" in text
    assert "--rate FLOAT RANGE How fast. [default: 0.5; 0<x<=4]" in text
    assert run() == Larger() and run("--depth", 3, "--rate", 4).depth == 3
    for wrong in (("--depth", 9), ("--depth", 1), ("--rate", 0), ("--rate", 4.5)):
        assert CliRunner().invoke(larger, [str(word) for word in wrong]).exit_code == 2


def test_a_new_field_is_checked_in_python_and_read_from_a_file_and_kept_in_json(tmp_path):
    for wrong in ({"depth": 9}, {"depth": True}, {"depth": 2.5}, {"rate": 0}, {"rate": math.inf}):
        with pytest.raises(SettingsError, match=f"^{next(iter(wrong))}: expected "):
            check(Larger(**wrong))
    check(Larger(depth=np.int64(2), rate=np.float32(4)))
    path = write(tmp_path, "[train]\ndepth = 4\nrate = 2\n")
    assert read_settings(path, Larger, "train") == {"depth": 4, "rate": 2.0}
    assert run("--config", path) == Larger(depth=4, rate=2.0)
    with pytest.raises(SettingsError, match="depth: found no setting of this name"):
        read_settings(path, TrainConfig, "train")


@pytest.mark.parametrize("setting", settings(TrainConfig), ids=lambda s: s.name)
def test_the_options_of_edgeae_train_are_the_fields(setting):
    (option,) = [option for option in train.params if option.name == setting.name]
    assert option.opts == [f"--{setting.name.replace('_', '-')}"]
    assert option.help.startswith(setting.help) and setting.help[-1] == "."
    default = getattr(TrainConfig(), setting.name)
    if default is None:
        assert setting.derived and option.help.endswith(f"[default: {setting.derived}]")
    else:
        assert option.default == default and option.show_default
    if isinstance(option.type, click.IntRange | click.FloatRange):
        schema = json.dumps(
            msgspec.json.schema(TrainConfig)["$defs"]["TrainConfig"]["properties"][setting.name]
        )
        wanted = {(name, float(end)) for name, end in re.findall(r'"(\w+imum)": ([-\d.e]+)', schema)}
        assert bounds(option.type) == wanted != set()


def bounds(kind):
    """The ends of a range of click's, by the names that a JSON schema has for them."""
    ends = (
        ("exclusiveMinimum" if kind.min_open else "minimum", kind.min),
        ("exclusiveMaximum" if kind.max_open else "maximum", kind.max),
    )
    return {(name, float(end)) for name, end in ends if end is not None}


def test_what_is_no_setting_is_no_option_of_a_setting():
    """So that an option that is left over from a field that went is found."""
    others = {"data", "columns", "label_column", "normal", "window", "stride", "out", "resume", "force"}
    assert {option.name for option in train.params} - others == {*TrainConfig.__struct_fields__, "config"}


def test_the_settings_are_imported_without_what_they_are_the_settings_of():
    script = (
        "import sys, edgeae.config, edgeae_export.config; "
        "print(*[name for name in sys.modules if name.startswith(('edgeae.', 'edgeae_export.'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {
        "edgeae.config",
        "edgeae.models",
        "edgeae.models.architectures",
        "edgeae_export.config",
    }


# --- a file of settings --------------------------------------------------------------------------


def test_the_command_line_comes_before_the_file_and_the_file_before_the_defaults(tmp_path):
    lines = ["[train]", "hidden = [64, 32]", "tied = true", "epochs = 7", "l2 = 1", "max_norm = 3"]
    path = write(tmp_path, "\n".join([*lines, "[export]", 'not = "ours"']))
    assert run("--config", path) == Larger(hidden=(64, 32), tied=True, epochs=7, l2=1.0, max_norm=3.0)
    found = run("--epochs", 50, "--config", path, "--no-tied", "--hidden", 5)
    assert found == Larger(hidden=(5,), l2=1.0, max_norm=3.0)
    assert isinstance(found.l2, float)


def test_no_hidden_layer_at_all_can_be_said_in_a_file(tmp_path):
    assert run("--config", write(tmp_path, "[train]\nhidden = []\n")).hidden == ()


def test_the_example_in_the_documents_is_read(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    path = write(tmp_path, example)
    trained = TrainConfig(**read_settings(path, TrainConfig, "train"))
    exported = ExportConfig(**read_settings(path, ExportConfig, "export"))
    assert trained != TrainConfig() and exported != ExportConfig()
    for setting in settings(TrainConfig):
        default = setting.derived or str(setting.default).replace("False", "false")
        takes = ", ".join(setting.choices)
        assert re.search(
            rf"^\| `{setting.name}` \| {takes}.* \| {re.escape(default)} \|$", text, re.MULTILINE
        )
    named = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert named == {*TrainConfig.__struct_fields__, *ExportConfig.__struct_fields__, *ARCHITECTURES}


def test_the_table_of_architectures_has_every_name_and_is_the_one_in_the_documents():
    assert tuple(ARCHITECTURES) == get_args(Arch)
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"\| architecture .*\n\| -.*\n((?:\|.*\n)+)", text)
    assert table.splitlines() == [
        f"| `{name}` | {row.summary} | {row.samples} | {row.default_hidden_text} |"
        for name, row in ARCHITECTURES.items()
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[train]\nepoch = 5",
            "[train] epoch: found no setting of this name, expected one of arch, hidden, latent, objective, "
            "loss, noise, noise_kind, sparsity, sparsity_target, sparsity_weight, contractive_weight, "
            "kl_weight, laplacian, l2, max_norm, tied, scaler, epochs, batch_size, validation_split, "
            "patience, learning_rate, seed; write epochs, or delete the line",
        ),
        (
            "[train]\nepochs = 0",
            "[train] epochs: expected more than 0, found 0; correct it, or delete the line (default: 50)",
        ),
        (
            '[train]\nepochs = "ten"',
            "[train] epochs: expected a whole number, more than 0, found 'ten'; correct it, or delete the "
            "line (default: 50)",
        ),
        (
            "[train]\nlatent = 2.5",
            "[train] latent: expected a whole number, more than 0, found 2.5; correct it, or delete the line "
            "(default: 32, or a quarter of the input if less)",
        ),
        (
            "[train]\ntied = 1",
            "[train] tied: expected true or false, found 1; correct it, or delete the line (default: false)",
        ),
        (
            '[train]\narch = "tree\\nhouse"',
            f"[train] arch: expected one of {', '.join(ARCHITECTURES)}, found 'tree\\nhouse'; correct it, or "
            "delete the line (default: dense)",
        ),
        (
            "[train]\nhidden = [8, 0]",
            "[train] hidden: expected 1 or more in each layer, found [8, 0]; correct it, or delete the line "
            "(default: dense as many as the input, 8 to 128; ",
        ),
        ("[train]\nhidden = 8", "[train] hidden: expected a list of a whole number, 1 or more, found 8; "),
        ("[train]\nl2 = nan", "[train] l2: expected 0 or more, found nan; "),
        ("[train]\nl2 = " + "9" * 400, "[train] l2: expected 0 or more, found 999"),
        ("[train]\nepochs = " + "9" * 30, "[train] epochs: expected more than 0, found 99"),
        ("[train]\nseed = 4294967296", "[train] seed: expected 0 to 4294967295, found 4294967296; "),
        ("[train]\nnoise = 2026-01-31", "[train] noise: expected a number, 0 or more, found 2026-01-31; "),
        (
            "epochs = 5",
            "epochs: expected only the tables [train] and [export], found a value outside of them; put "
            "settings below a line [train]",
        ),
        (
            "[trian]\nepochs = 5",
            "trian: expected only the tables [train] and [export], found another table; ",
        ),
        ('["a\\nb"]\nepochs = 5', "'a\\nb': expected only the tables"),
        ('[train]\n"a\\nb" = 5', "[train] 'a\\nb': found no setting of this name"),
        ("train = 5", "train: expected only the tables"),
        ("[[train]]\nepochs = 5", "train: expected only the tables"),
        ("", "expected a table [train], found none; add it, or leave out --config"),
        ("[export]\nformats = ['onnx']", "expected a table [train], found none; "),
        ("[train\nepochs = 5", "expected TOML, found something else ("),
        ("[train]\nepochs = 5\nepochs = 6", "expected TOML, found something else ("),
        ("[train]\nhidden = " + "[" * 5000, "expected TOML, found something else ("),
    ],
)
def test_a_mistake_in_a_file_is_one_line_with_the_key_and_a_remedy(text, told, tmp_path):
    path = write(tmp_path, text)
    done = CliRunner().invoke(
        main, ["train", "digits", "--out", str(tmp_path / "x.run"), "--config", str(path)]
    )
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {path}: {told}")
    assert done.output.count("\n") == 1 and done.output.endswith("\n")
    assert not (tmp_path / "x.run").exists()


@pytest.mark.parametrize("content", [None, b"[train]\narch = '\xff'"])
def test_a_file_that_is_missing_or_no_text_is_told(content, tmp_path):
    path = tmp_path / "settings.toml"
    if content is not None:
        path.write_bytes(content)
    done = CliRunner().invoke(main, ["train", "digits", "--out", "x.run", "--config", str(path)])
    assert done.exit_code == 1 and done.output.count("\n") == 1
    assert done.output.startswith(f"Error: {path}: ")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_number_that_is_none_is_refused_on_the_command_line_before_anything_is_read(value, tmp_path):
    words = ["train", "none.csv", "--out", str(tmp_path / "x.run"), "--noise", value]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.output) == (1, f"Error: noise: expected 0 or more, found {value}\n")


def values(setting):
    """Values that a setting can have, by its schema."""
    if setting.choices:
        return st.sampled_from(setting.choices)
    low = setting.bounds.get("ge", setting.bounds.get("gt"))
    high = setting.bounds.get("le", setting.bounds.get("lt"))
    if setting.kind is bool:
        return st.booleans()
    if setting.kind is int:
        whole = st.integers(low + ("gt" in setting.bounds), high or 10**6)
        return st.lists(whole, max_size=4).map(tuple) if setting.several else whole
    exclude = {"exclude_min": "gt" in setting.bounds, "exclude_max": "lt" in setting.bounds}
    return st.floats(low, high or 1e12, **exclude)


QUICKLY = hypothesis_settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CHOSEN = st.fixed_dictionaries({}, optional={s.name: values(s) for s in settings(TrainConfig)})


@given(CHOSEN)
@QUICKLY
def test_from_a_file_to_the_record_of_a_run_and_back_nothing_changes(tmp_path, said):
    def toml(value):
        return json.dumps(list(value) if isinstance(value, tuple) else value)

    lines = [f"{name} = {toml(value)}" for name, value in said.items()]
    path = write(tmp_path, "\n".join(["[train]", *lines]))
    assert read_settings(path, TrainConfig, "train") == said
    config = TrainConfig(**said)
    check(config)
    record = msgspec.json.encode(msgspec.to_builtins(config))
    assert msgspec.json.decode(record, type=TrainConfig) == config


OF_0_1_0 = """{"arch": "dense", "hidden": [32], "latent": 8, "objective": "plain", "loss": "mse",
"noise": 0.3,"noise_kind": "gaussian", "sparsity": "l1", "sparsity_target": 0.05, "sparsity_weight": 0.03,
"contractive_weight": 0.1, "kl_weight": 1.0, "laplacian": 0.0, "l2": 0.0, "max_norm": null, "tied": false,
"scaler": "minmax", "epochs": 12, "batch_size": 32, "validation_split": 0.2, "patience": 5,
"learning_rate": 0.001, "seed": 0}"""


def test_the_record_of_a_run_of_version_0_1_0_is_read():
    run = msgspec.json.decode(
        '{"input": {"shape": [20]}, "scaler": {"kind": "none", "offset": [0.0], "gain": [1.0]}, "config": '
        f"{OF_0_1_0}}}",
        type=Run,
    )
    config = msgspec.convert(run.config, TrainConfig)
    check(config)
    assert config == TrainConfig(
        hidden=(32,), latent=8, loss="mse", epochs=12, batch_size=32, validation_split=0.2
    )
    assert json.loads(msgspec.json.encode(config)) == json.loads(OF_0_1_0)


def test_a_run_is_trained_as_the_file_and_the_command_line_say(tmp_path):
    path = write(tmp_path, "[train]\nhidden = [12, 6]\nlatent = 3\nepochs = 9\nseed = 5\n")
    words = ["train", "digits", "--config", str(path), "--epochs", "1", "--out", str(tmp_path / "x.run")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    config = json.loads((tmp_path / "x.run" / "run.json").read_text())["config"]
    assert msgspec.convert(config, TrainConfig) == TrainConfig(
        hidden=(12, 6), latent=3, epochs=1, seed=5, loss="mse"
    )


# --- arguments in Python, options on the command line --------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--arch", "lstm"], "cut the series into windows with --window, or use --arch dense"),
        (["--arch", "conv1d", "--window", "4", "--tied"], "use --arch dense, or conv1d untied"),
        (["--loss", "bce", "--scaler", "standard"], "use --scaler minmax with --loss bce"),
        (["--batch-size", "500"], "give more rows, or --batch-size 22"),
        (["--normal", "ok", "--label-column", "none"], "none"),
    ],
)
def test_the_command_names_its_options(words, told, tmp_path):
    rows = np.random.default_rng(0).normal(size=(100, 3))
    np.savetxt(tmp_path / "x.csv", rows, delimiter=",", header="a,b,c", comments="")
    done = CliRunner().invoke(
        main, ["train", str(tmp_path / "x.csv"), "--out", str(tmp_path / "x.run"), *words]
    )
    assert done.exit_code == 1
    assert told in done.output.splitlines()[-1]


def test_an_error_names_arguments_in_python_and_keeps_them_apart_from_like_words():
    error = DataError("a window=60.csv: leave out ", Argument("window"), " or use ", Argument("as_zip", True))
    assert str(error) == "a window=60.csv: leave out window or use as_zip=True"
    assert error.spelled({"window": "--window", "as_zip": "--zip"}) == (
        "a window=60.csv: leave out --window or use --zip"
    )
    assert str(DataError("plain")) == "plain" and str(DataError()) == ""


@pytest.mark.filterwarnings("always:.*is odd")
def test_a_warning_names_the_options_of_the_command_that_runs():
    class Only(Commands):
        def get_command(self, ctx, cmd_name):
            return careless

    @click.command()
    @click.argument("data")
    @click.option("--raw-range", "scaler")
    def careless(data, scaler):
        warnings.warn(
            EdgeaeWarning(Argument("data"), " is odd; ", Argument("scaler"), " or ", Argument("recipe", "a")),
            stacklevel=1,
        )

    done = CliRunner().invoke(Only("edgeae"), ["careless", "x"])
    assert done.output == "Warning: DATA is odd; --raw-range or recipe='a'\n"
