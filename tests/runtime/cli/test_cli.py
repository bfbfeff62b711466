import csv
import json
import re
import struct
import subprocess
import sys
import warnings
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import click
import click.testing
import msgspec
import numpy as np
import pandas as pd
import pytest

import edgeae_runtime
from edgeae_runtime import Bundle, Manifest, load
from edgeae_runtime.cli.main import main
from edgeae_runtime.errors import EdgeaeWarning

COMMANDS = {entry.name: entry for entry in entry_points(group="edgeae.commands")}
HEAVY = {"onnxruntime", "ai_edge_litert", "tensorflow", "keras", "onnx", "tf2onnx", "sklearn", "matplotlib"}
COLUMNS = ["temperature", "pressure", "vibration", "voltage", "current", "speed"]


def json_rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def column(rows: list[dict], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], np.float32)


@pytest.fixture(scope="module")
def readings(rows, tmp_path_factory) -> Path:
    """The rows as a file."""
    path = tmp_path_factory.mktemp("readings") / "readings.npy"
    np.save(path, rows)
    return path


# --- help ----------------------------------------------------------------------------------------


def test_help_lists_every_installed_command(run) -> None:
    found = run("--help").stdout
    assert {"embed", "score", "info", "verify"} <= COMMANDS.keys()
    assert sorted(listed(found)) == sorted(COMMANDS)
    assert all(listed(found).values()), "a command has no summary"
    assert "Examples:\n    edgeae info pump.edgeae " in found


def listed(text) -> dict[str, str]:
    """What the root's help says of each command, its lines joined."""
    found: dict[str, str] = {}
    (_, *groups) = text[text.index("Options:\n") :].split("\n\n")
    for line in (line for group in groups for line in group.splitlines()[1:]):
        start = re.match(r"  (\S+) +(.*)", line)
        if start:
            last = start[1]
            found[last] = start[2]
        else:
            found[last] += f" {line.strip()}"
    return found


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_help_tells_each_commands_first_sentence_uncut_and_wrapped_to_the_terminal(
    capsys, monkeypatch, columns
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    main(["--help"], standalone_mode=False)  # click's runner of tests has 80 columns, whatever is said
    found = capsys.readouterr().out
    for name, said in listed(found).items():
        help_text = " ".join((COMMANDS[name].load().help or "").split())
        assert help_text.startswith(said) and "..." not in said and len(said.split()) > 3
    (_, groups) = found.split("Options:\n")
    assert max(map(len, groups.splitlines())) <= columns
    assert (max(map(len, groups.splitlines())) > 80) == (columns > 80), "the width is not made use of"


def test_help_groups_the_commands_as_the_readme_does(run) -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    where = dict(re.findall(r"^\| `edgeae (\w+).*?` \| (\w+) \|", readme, re.MULTILINE))
    assert where.keys() >= COMMANDS.keys()
    (_, *groups) = run("--help").stdout.split("\n\n")
    headings = {"workstation": "On a workstation:", "anywhere": "Anywhere:"}
    for place, heading in headings.items():
        (group,) = [group for group in groups if group.startswith(heading)]
        names = re.findall(r"^  (\S+)", group, re.MULTILINE)
        assert names == sorted(name for name in COMMANDS if where[name] == place)


def test_the_roots_help_imports_nothing_that_takes_long() -> None:
    code = (
        "import json, sys; from edgeae_runtime.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\nprint(json.dumps(list(sys.modules)))"
    )
    words = [sys.executable, "-c", code]
    found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    modules = {name.partition(".")[0] for name in json.loads(found.splitlines()[-1])}
    assert "click" in modules
    assert modules & (HEAVY | {"numpy", "multiprocessing"}) == set()


def test_a_command_of_another_package_is_listed_and_runs(tmp_path) -> None:
    info = tmp_path / "third-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgeae.commands]\nhello = third:hello\n")
    code = (
        'import click\n\n@click.command()\ndef hello():\n    """Greet. And more."""\n    click.echo("hi")\n'
    )
    (tmp_path / "third.py").write_text(code)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from edgeae_runtime.cli.main import main; main()"
    )

    def told(word: str) -> str:
        words = [sys.executable, "-c", script, word]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout

    assert "\n\nFrom other packages:\n  hello  Greet.\n" in told("--help")
    assert told("hello") == "hi\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_examples_and_each_of_its_options(run, name) -> None:
    found = run(name, "-h").stdout
    assert re.search(rf"Examples:\n    edgeae {name}\b", found)
    command = COMMANDS[name].load()
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_help_imports_neither_an_engine_nor_a_training_stack() -> None:
    code = (
        "import json, sys; from edgeae_runtime.cli.main import main\n"
        "for words in (['--help'], *([name, '--help'] for name in sys.argv[1:])):\n"
        "    main(words, standalone_mode=False)\n"
        "print(json.dumps(list(sys.modules)))"
    )
    words = [sys.executable, "-c", code, *COMMANDS]
    found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    modules = {name.partition(".")[0] for name in json.loads(found.splitlines()[-1])}
    assert "click" in modules
    assert modules & HEAVY == set()


def test_the_version_is_that_of_the_package(run) -> None:
    assert run("--version").stdout == f"edgeae, version {edgeae_runtime.__version__}\n"


# --- embed and score -----------------------------------------------------------------------------


def test_embed_prints_what_the_library_computes(tiny, rows, readings, engine, precision, run) -> None:
    found = run("embed", tiny, readings, "--engine", engine, "--precision", precision).stdout
    expected = load(tiny, engine=engine, precision=precision).embed(rows)
    assert column(json_rows(found), "row").tolist() == list(range(1, 1001))
    np.testing.assert_array_equal(column(json_rows(found), "embedding"), expected)


def test_score_prints_what_the_library_detects(tiny, rows, readings, engine, precision, run) -> None:
    found = json_rows(run("score", tiny, readings, "--engine", engine, "--precision", precision).stdout)
    expected = load(tiny, engine=engine, precision=precision).detect(rows)
    assert [set(row) for row in found] == [{"row", "error", "threshold", "anomaly"}] * 1000
    np.testing.assert_array_equal(column(found, "error"), expected.error)
    assert [row["anomaly"] for row in found] == expected.anomaly.tolist()
    assert {row["threshold"] for row in found} == {expected.threshold}


@pytest.mark.parametrize("command", ["embed", "score"])
def test_files_hold_what_is_printed(tiny, readings, tmp_path, run, command) -> None:
    printed = run(command, tiny, readings).stdout
    for name in ("out.npy", "out.csv", "out.jsonl"):
        assert run(command, tiny, readings, "-o", tmp_path / name).output == ""
    assert (tmp_path / "out.jsonl").read_text() == printed
    main_column = {"embed": "embedding", "score": "error"}[command]
    expected = column(json_rows(printed), main_column)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    with (tmp_path / "out.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    names = [name for name in table[0] if name.startswith(main_column)]
    cells = np.array([[row[name] for name in names] for row in table], float).astype(np.float32)
    np.testing.assert_array_equal(cells, expected.reshape(1000, -1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.jsonl", "out.npy"]


def test_more_threads_and_a_zip_file_change_no_result(tiny, tiny_zip, readings, engine, run) -> None:
    expected = run("score", tiny, readings, "--engine", engine).stdout
    assert run("score", tiny, readings, "--engine", engine, "--threads", 2).stdout == expected
    assert run("score", tiny_zip, readings, "--engine", engine).stdout == expected


def test_columns_of_a_csv_are_found_by_name(tiny, rows, tmp_path, run) -> None:
    path = tmp_path / "readings.csv"
    names = ["when", "speed", "current", "temperature", "note", "pressure", "vibration", "voltage"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows[:50].tolist():
            cells = {**dict(zip(COLUMNS, row, strict=True)), "when": "2026-01-31", "note": 'pump "A", left'}
            writer.writerow([cells[name] for name in names])
    found = json_rows(run("score", tiny, path, "--precision", "float32").stdout)
    np.testing.assert_array_equal(column(found, "error"), load(tiny, precision="float32").score(rows[:50]))


def test_npz_and_idx_files_are_read_too(tiny, rows, tmp_path, run) -> None:
    np.savez(tmp_path / "readings.npz", rows[:9])
    header = bytes([0, 0, 0x0D, 2]) + struct.pack(">2I", 9, 6)
    (tmp_path / "readings.idx").write_bytes(header + rows[:9].astype(">f4").tobytes())
    expected = load(tiny).score(rows[:9])
    for name in ("readings.npz", "readings.idx"):
        found = json_rows(run("score", tiny, tmp_path / name).stdout)
        np.testing.assert_array_equal(column(found, "error"), expected)


def test_images_are_scored_whatever_their_shape_in_the_file(bundle, rows, tmp_path, run) -> None:
    with bundle.manifest() as manifest:
        manifest["input"].update(shape=[2, 3], features=None)
    np.save(tmp_path / "flat.npy", rows[:9])
    np.save(tmp_path / "images.npy", rows[:9].reshape(9, 2, 3))
    flat = run("score", bundle.path, tmp_path / "flat.npy").stdout
    assert run("score", bundle.path, tmp_path / "images.npy").stdout == flat


# --- info ----------------------------------------------------------------------------------------


def test_info_shows_what_the_bundle_holds(tiny, run) -> None:
    lines = run("info", tiny).stdout.splitlines()
    manifest = Bundle(tiny).manifest
    assert lines[0] == f"{tiny}: input 6, embedding 2, scaler standard"
    assert lines[1] == f"columns: {', '.join(COLUMNS)}"
    assert manifest.reference.rule in lines[2]
    assert f"id {manifest.id}" in lines and "format 2, needs edgeae-runtime 0.1.0 or newer" in lines
    assert any(line.startswith("made with held-out rows, 512 rows, SHA-256 ") for line in lines)
    table = {line.split()[0]: line.split() for line in lines[lines.index("") + 2 :]}
    assert list(table) == [artifact.path for artifact in manifest.artifacts]
    for artifact in manifest.artifacts:
        cells = table[artifact.path]
        assert float(cells[1]) == pytest.approx(artifact.bytes / 1000, abs=0.05)
        assert float(cells[2]) == pytest.approx(artifact.threshold.value, rel=1e-5)


def test_info_of_images_says_their_shape_and_names_no_columns(bundle, run) -> None:
    with bundle.manifest() as manifest:
        manifest["input"].update(shape=[2, 3], features=None)
    found = run("info", bundle.path).stdout
    assert "input 2 x 3, embedding 2" in found
    assert "columns:" not in found


def test_info_as_json_is_the_manifest(tiny, tiny_zip, run) -> None:
    for path in (tiny, tiny_zip):
        found = run("info", path, "--json").stdout
        assert found.count("\n") == 1
        assert msgspec.json.decode(found, type=Manifest) == Bundle(tiny).manifest


def test_info_needs_no_model_files(bundle, run) -> None:
    for path in bundle.path.iterdir():
        if path.name != "manifest.json":
            path.unlink()
    assert "scorer.int8.onnx" in run("info", bundle.path).stdout


# --- what is wrong is told in one line, and nothing is written -----------------------------------


@pytest.mark.parametrize("command", ["embed", "score"])
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.csv", None, "no such file"),
        ("x.txt", b"1 2", "unknown kind of file, expected .csv, .jsonl, "),
        ("x.parquet", b"PAR1", "cannot be read as a table (Parquet file size is 4 bytes"),
        ("x.npy", b"", "is empty (0 bytes); write it again"),
        ("x.npy", b"\x93NUMPY", "cannot be read ("),
        ("x.csv", b"temperature,speed\n1,2\n", "has no column 'pressure', 'vibration', 'voltage', 'current'"),
        (
            "x.csv",
            ",".join(COLUMNS).encode() + b"\n1,2,3,4,5,6\n1,2,3,four,5,6\n",
            "row 2 (line 3), column 'voltage': 'four' is not a number; remove or repair the row",
        ),
        (
            "x.csv",
            ",".join(COLUMNS).encode() + b"\n1,2,3,4,nan,6\n",
            "row 1 (line 2), column 'current' is nan; every value must be finite",
        ),
    ],
)
def test_data_that_cannot_be_read(tiny, tmp_path, refused, command, name, content, reason) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for out in ([], ["--out", tmp_path / "out.csv"]):
        assert refused(command, tiny, path, *out).startswith(f"{path}: {reason}")


@pytest.mark.parametrize("command", ["embed", "score"])
def test_data_of_another_width(tiny, tmp_path, refused, command) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 7)))
    assert refused(command, tiny, tmp_path / "x.npy", "-o", tmp_path / "out.csv") == (
        "input: expected samples of shape (6,), so one sample or (n, 6); found (3, 7)"
    )


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "npy", "parquet"])
def test_a_reading_beyond_all_measure_is_one_anomaly_in_a_file_that_is_scored(
    tiny, rows, tmp_path, run, engine, suffix
) -> None:
    samples = {"x": rows[:50].copy(), "usual": rows[:50]}
    samples["x"][30, 2] = 3e21
    found = {}
    for name, values in samples.items():
        np.save(tmp_path / "readings.npy", values)
        out = tmp_path / f"{name}.{suffix}"
        run("score", tiny, tmp_path / "readings.npy", "--engine", engine, "-o", out)
        if suffix == "npy":
            found[name] = np.load(out)
            continue
        table = {"jsonl": partial(pd.read_json, lines=True), "csv": pd.read_csv, "parquet": pd.read_parquet}[
            suffix
        ](out)
        found[name] = table["error"].to_numpy()
        assert table["anomaly"].dtype == bool
        if name == "x":
            assert table["anomaly"][30]
    assert found["x"][30] == np.inf if suffix != "jsonl" else np.isnan(found["x"][30])
    np.testing.assert_array_equal(np.delete(found["x"], 30), np.delete(found["usual"], 30))


def test_as_json_an_infinite_error_is_null_as_watch_writes_it(tiny, rows, tmp_path, run, engine) -> None:
    samples = rows[:3].copy()
    samples[1] = 3e38
    np.save(tmp_path / "x.npy", samples)
    lines = run("score", tiny, tmp_path / "x.npy", "--engine", engine).stdout.splitlines()
    second = json.loads(lines[1], parse_constant=pytest.fail)
    assert second["error"] is None and second["anomaly"] is True and second["row"] == 2


def test_a_code_that_overflows_is_null_in_json_and_what_it_is_in_csv(tiny, rows, tmp_path, run) -> None:
    samples = rows[:3].copy()
    samples[1] = 3e38
    np.save(tmp_path / "x.npy", samples)
    words = ["embed", tiny, tmp_path / "x.npy", "--engine", "onnxruntime", "--precision", "float32"]
    second = run(*words).stdout.splitlines()[1]
    assert None in json.loads(second, parse_constant=pytest.fail)["embedding"]
    run(*words, "-o", tmp_path / "codes.csv")
    codes = np.loadtxt(tmp_path / "codes.csv", delimiter=",", skiprows=1)
    exact = edgeae_runtime.load(tiny, engine="onnxruntime", precision="float32")
    assert not np.isfinite(exact.embed(samples)[1]).all()
    np.testing.assert_array_equal(codes[:, 1:], exact.embed(samples).astype(float))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["score", "{bundle}", "{data}"],
            "{bundle}: scorer.int8.onnx is missing; copy the whole bundle again",
        ),
        (["embed", "{folder}", "{data}"], "{folder}: manifest.json is missing; copy the whole bundle again"),
        (
            ["info", "{data}"],
            "{data}: is neither a bundle's folder nor a zip file (truncated?); copy it again",
        ),
        (["info", "{none}"], "{none}: no such bundle; make one with `edgeae export` or copy it here"),
        (["verify", "{none}"], "{none}: no such bundle; make one with `edgeae export` or copy it here"),
        (
            ["score", "{bundle}", "{data}", "--precision", "float16"],
            "{bundle}: has nothing of precision float16 for engine auto; it holds ",
        ),
        (
            ["embed", "{bundle}", "{data}", "--engine", "litert", "--precision", "dynamic"],
            "{bundle}: has nothing of precision dynamic for engine litert; it holds ",
        ),
        (
            ["embed", "{bundle}", "{data}", "-o", "{folder}/x.txt"],
            "{folder}/x.txt: unknown output format '.txt'; use .npy, .csv, .jsonl or .parquet",
        ),
        (
            ["score", "{bundle}", "{data}", "-o", "{none}/x.csv"],
            "{none}/x.csv: its folder {none} does not exist; create it first",
        ),
        (["score", "{bundle}", "{data}", "-o", "{folder}/x.npy"], "{folder}/x.npy: is a folder; name a file"),
    ],
)
def test_what_cannot_be_done(bundle, readings, tmp_path, refused, words, told) -> None:
    folder = tmp_path / "folder"
    (folder / "x.npy").mkdir(parents=True)
    (bundle.path / "scorer.int8.onnx").unlink()
    places = {"bundle": bundle.path, "data": readings, "folder": folder, "none": tmp_path / "none"}
    found = refused(*[word.format(**places) for word in words])
    assert found.startswith(told.format(**places))


def test_a_bundle_of_a_newer_format(bundle, readings, refused) -> None:
    bundle.write("manifest.json", b'{"format_version": 99}')
    for words in (["info"], ["info", "--json"], ["verify"], ["embed", readings], ["score", readings]):
        found = refused(words[0], bundle.path, *words[1:])
        assert found.startswith(f"{bundle.path}: bundle format 99, but this runtime reads up to ")


def test_an_output_that_cannot_be_is_refused_before_any_work(bundle, tmp_path, refused) -> None:
    assert "unknown output format" in refused("score", tmp_path / "none", "none", "-o", tmp_path / "x.txt")
    (tmp_path / "old.csv").write_text("old")
    refused("score", bundle.path, tmp_path / "none.csv", "-o", tmp_path / "old.csv")  # which is left alone


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".jsonl"])
def test_a_full_disk(tiny, readings, tmp_path, refused, full_disk, suffix) -> None:
    out = tmp_path / f"out{suffix}"
    out.write_bytes(b"old")
    with full_disk():
        found = refused("score", tiny, readings, "-o", out)
    assert found.startswith(f"{out}: cannot be written (")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Usage: "),
        (["scores"], "No such command 'scores'"),
        (["score"], "Missing argument 'BUNDLE'"),
        (["score", "pump.edgeae"], "Missing argument 'DATA...'"),
        (["score", "pump.edgeae", "x.npy", "--threads", "0"], "Invalid value for '--threads'"),
        (["score", "pump.edgeae", "x.npy", "--engine", "tflite"], "'tflite' is not one of"),
        (["score", "pump.edgeae", "x.npy", "--precision", "int4"], "'int4' is not one of"),
        (["verify", "pump.edgeae", "--threads", "many"], "Invalid value for '--threads'"),
        (["info", "pump.edgeae", "--yaml"], "No such option"),
    ],
)
def test_a_command_line_that_makes_no_sense_exits_with_2(words, told) -> None:
    found = click.testing.CliRunner().invoke(main, words)
    assert found.exit_code == 2
    assert told in found.stderr
    assert "Traceback" not in found.output


# --- warnings ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("always")
def test_warnings_for_the_user_are_lines_and_others_stay_what_they_are(run, monkeypatch) -> None:
    @click.command()
    def warn() -> None:
        warnings.warn("the code is as large as the input", EdgeaeWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    entry = SimpleNamespace(load=lambda: warn)
    monkeypatch.setattr("edgeae_runtime.cli.main._installed", lambda: {"warn": entry})
    with pytest.warns(DeprecationWarning, match="^old$") as others:
        assert run("warn").stderr == "Warning: the code is as large as the input\n"
    assert len(others) == 1


# --- the installed command -----------------------------------------------------------------------


def test_installed_it_prints_nothing_but_results(tiny, rows, readings, installed) -> None:
    found = installed("score", tiny, readings)
    assert (found.returncode, found.stderr) == (0, "")
    np.testing.assert_array_equal(column(json_rows(found.stdout), "error"), load(tiny).score(rows))


def test_installed_it_verifies_and_exits_with_3_where_that_fails(bundle, installed) -> None:
    found = installed("verify", bundle.path, "--json")
    assert found.returncode == 0
    assert {check["status"] for check in json.loads(found.stdout)} == {"ok"}
    bundle.replace("scorer.float32.onnx", bundle.read("scorer.int8.onnx"))
    found = installed("verify", bundle.path)
    assert found.returncode == 3
    assert found.stderr.splitlines()[-1].startswith(f"Error: {bundle.path}: 1 of ")
    assert "Traceback" not in found.stderr


def test_installed_it_tells_an_error_in_one_line(tmp_path, installed) -> None:
    found = installed("info", tmp_path)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == f"Error: {tmp_path}: manifest.json is missing; copy the whole bundle again\n"


def test_installed_it_ends_quietly_when_its_reader_goes_away(tiny, tmp_path) -> None:
    np.save(tmp_path / "many.npy", np.tile(np.load(tiny / "golden.npz")["input"], (5000, 1)))
    command = Path(sys.executable).with_name("edgeae")
    words = [command, "score", tiny, tmp_path / "many.npy"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b'{"row":1,')
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) != 0


def test_installed_it_tells_in_one_line_when_standard_output_is_full(tiny, readings) -> None:
    command = Path(sys.executable).with_name("edgeae")
    for words in (["score", tiny, readings], ["info", tiny]):
        with Path("/dev/full").open("wb") as full:
            found = subprocess.run(
                [command, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
            )
        assert found.returncode == 1
        assert found.stderr == "Error: the output cannot be written (No space left on device)\n"
