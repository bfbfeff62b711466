"""The settings of an export: from a file, from options, and what is refused."""

import pytest
from click.testing import CliRunner

from edgeae_export.builder import Options
from edgeae_export.config import ExportConfig
from edgeae_export.fidelity.limits import DEFAULT_LIMITS
from edgeae_export.pipeline import options_of
from edgeae_runtime import Bundle
from edgeae_runtime.cli.main import main

FORMATS = "[export] formats: expected a list of some of onnx, tflite, c, each once"


@pytest.fixture(scope="module")
def run_folder(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings") / "digits.run"
    digits.trained.save(folder)
    return folder


@pytest.fixture
def export(tmp_path):
    """Run `edgeae export` with a file of settings; return what it said and where the bundle goes."""

    def run(text, *words, model="none.run"):
        (tmp_path / "settings.toml").write_text(text, encoding="utf-8")
        out = tmp_path / "x.edgeae"
        fixed = [str(model), "--out", str(out), "--config", str(tmp_path / "settings.toml")]
        return CliRunner().invoke(main, ["export", *fixed, *words]), out

    return run


def test_a_bundle_is_made_as_the_file_and_the_command_line_say(export, run_folder):
    text = '[export]\nformats = ["onnx"]\nprecisions = ["float32", "int8"]\nthreshold = "max:1.5"\n'
    done, out = export(text, "--precisions", "float32", model=run_folder)
    assert done.exit_code == 0, done.output
    manifest = Bundle(out).manifest
    assert {(a.format, a.precision) for a in manifest.artifacts} == {("onnx", "float32")}
    assert manifest.reference.rule == "max:1.5"


def test_a_limit_in_the_file_is_that_of_the_option(export, run_folder):
    lines = ["[export]", 'formats = ["onnx"]', 'precisions = ["int8"]', 'recipe = "per-tensor"']
    done, out = export("\n".join([*lines, "max_error_change = 1e-9"]), model=run_folder)
    assert done.exit_code == 3 and "(at most 0.000%)" in done.output
    assert (
        "try another --recipe, leave that precision out, or write the others with --keep-passing"
        in done.output
    )
    assert not out.exists()


def test_what_nothing_says_is_the_default_in_python_and_on_the_command_line():
    assert options_of(ExportConfig()) == Options()
    assert Options().limits == DEFAULT_LIMITS


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[export]\nformats = ["onxx"]',
            f"{FORMATS}, found ['onxx']; correct it, or delete the line (default: onnx, tflite)",
        ),
        (
            '[export]\nformats = ["c", "c"]',
            FORMATS,
        ),
        ("[export]\nformats = []", FORMATS),
        (
            "[export]\nformats = [[1], {}]",
            FORMATS,
        ),
        (
            '[export]\nprecisions = "int8"',
            "[export] precisions: expected a list of some of float32",
        ),
        (
            "[export]\nrecipe = 1",
            "[export] recipe: expected text in quotes, found 1; correct it",
        ),
        (
            "[export]\nmin_cosine = 1.5",
            "[export] min_cosine: expected -1 to 1, found 1.5; correct",
        ),
        (
            "[export]\nmax_error_change = nan",
            "[export] max_error_change: expected 0 or more, found nan",
        ),
        ("[export]\nlatent = 4", "[export] latent: found no setting of this name, expected one of formats, "),
        ("[train]\nlatent = 4", "expected a table [export], found none; add it, or leave out --config"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_the_key_and_a_remedy(export, tmp_path, text, told):
    done, out = export(text)
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {tmp_path / 'settings.toml'}: {told}")
    assert done.output.count("\n") == 1 and not out.exists()
