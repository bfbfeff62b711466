import csv
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMMANDS = sorted(entry.name for entry in entry_points(group="edgeae.commands"))

pytestmark = pytest.mark.slow


def edgeae(*arguments, cwd, **options):
    """Run the installed command."""
    command = [str(BIN / "edgeae"), *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, **options}
    return subprocess.run(command, cwd=cwd, text=True, timeout=240, stderr=subprocess.PIPE, **options)


def works(*arguments, cwd, **options):
    done = edgeae(*arguments, cwd=cwd, **options)
    assert done.returncode == 0, done.stderr
    return done


def snapshot(folder):
    """Every name below a folder, with the bytes of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def fails(*arguments, cwd, status=1, printed="", **options):
    """Run a command that must end with one clear line and leave all files as they are; return the line."""
    before = snapshot(cwd)
    done = edgeae(*arguments, cwd=cwd, **options)
    assert "Traceback" not in done.stderr
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1 and done.stderr.endswith("\n"), done.stderr
    assert printed is None or done.stdout == printed
    assert snapshot(cwd) == before
    return done.stderr.removeprefix("Error: ").rstrip("\n")


def write_csv(path, names, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


@pytest.fixture(scope="module")
def table(other_units):
    """Names and rows of a pump's 20 sensors, each in a unit of its own."""
    pixels = load_digits().data
    rows = other_units(pixels[:, np.std(pixels, axis=0) > 3][:, :20])
    return [f"sensor {i}" for i in range(rows.shape[1])], rows


@pytest.fixture(scope="module")
def pump(table, tmp_path_factory):
    """A folder with pump.csv, pump.run and pump.edgeae, made by the installed commands.

    They run with a home of their own, `home` in there, and nothing says that reports are not wanted.
    """
    folder = tmp_path_factory.mktemp("pump")
    (folder / "home").mkdir()
    hidden = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "KERAS_HOME", "CI")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["HOME"] = str(folder / "home")
    write_csv(folder / "pump.csv", table[0], table[1].tolist())
    settings = ["--hidden", 32, "--latent", 8, "--epochs", 12, "--batch-size", 32]
    trained = works(
        "train",
        "pump.csv",
        "--out",
        "pump.run",
        "--validation-split",
        0.2,
        *settings,
        cwd=folder,
        env=environment,
    )
    assert "pump.run: 1,797 samples, 12 epochs, best validation mse 0.0" in trained.stdout
    assert "Next: edgeae export pump.run --out pump.edgeae\n" in trained.stdout
    exported = works("export", "pump.run", "--out", "pump.edgeae", cwd=folder, env=environment)
    assert exported.stdout.splitlines()[-1].startswith("pump.edgeae: 12 ")
    (folder / "stderr.txt").write_text(trained.stderr + exported.stderr)
    return folder


@pytest.fixture
def here(pump, tmp_path):
    """A folder of one's own with the bundle and good readings."""
    shutil.copytree(pump / "pump.edgeae", tmp_path / "pump.edgeae")
    shutil.copy(pump / "pump.csv", tmp_path)
    return tmp_path


# --- the way that all goes well ------------------------------------------------------------------


def test_when_all_goes_well_nothing_is_said_on_standard_error(pump):
    assert (pump / "stderr.txt").read_text() == ""
    for arguments in (["verify", "pump.edgeae"], ["score", "pump.edgeae", "pump.csv", "--engine", "litert"]):
        assert works(*arguments, cwd=pump).stderr == ""


def test_training_and_export_leave_at_home_what_the_documents_say(pump):
    files = {path.relative_to(pump / "home") for path in (pump / "home").rglob("*") if path.is_file()}
    libraries = {".keras", ".cache/matplotlib"}  # docs/engines.md, "What is kept and what is reported"
    assert [path for path in files if not libraries & {*map(str, path.parents)}] == []


def test_info_says_what_the_bundle_holds(pump, table):
    text = works("info", "pump.edgeae", cwd=pump).stdout
    assert "input 20, embedding 8, scaler minmax" in text
    assert f"columns: {', '.join(table[0])}\n" in text
    found = json.loads(works("info", "pump.edgeae", "--json", cwd=pump).stdout)
    assert found == json.loads((pump / "pump.edgeae" / "manifest.json").read_text())
    for artifact in found["artifacts"]:
        (line,) = [line for line in text.splitlines() if line.startswith(f"{artifact['path']} ")]
        assert f"{artifact['threshold']['value']:.6g}" in line


def test_verify_finds_everything_well(pump):
    checks = json.loads(works("verify", "pump.edgeae", "--json", cwd=pump).stdout)
    assert len({check["artifact"] for check in checks}) == 12
    assert {check["status"] for check in checks} == {"ok"}
    assert works("verify", "pump.edgeae", cwd=pump).stdout.count("ok ") == len(checks)


def keras_says(run, rows):
    """Embeddings and errors by Keras and numpy."""
    import keras

    model = keras.saving.load_model(run / "autoencoder.keras", compile=False)
    scaler = json.loads((run / "run.json").read_text())["scaler"]
    scaled = np.float32((rows - np.float32(scaler["offset"])) * np.float32(scaler["gain"]))
    errors = np.mean(np.square(np.float64(scaled) - np.asarray(model(scaled))), axis=1)
    return np.asarray(model.get_layer("encoder")(scaled)), errors


@pytest.mark.parametrize("engine", ["onnxruntime", "litert", "openvino"])
def test_embed_and_score_give_what_keras_says_in_every_output_format(pump, table, tmp_path, engine):
    embedding, errors = keras_says(pump / "pump.run", table[1])
    chosen = ["--engine", engine, "--precision", "float32"]
    bundle = pump / "pump.edgeae"

    works("embed", bundle, pump / "pump.csv", "-o", "codes.npy", *chosen, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "codes.npy"), embedding, rtol=1e-4, atol=1e-5)

    works("score", bundle, pump / "pump.csv", "-o", "errors.npy", *chosen, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "errors.npy"), errors, rtol=1e-5)

    works("score", bundle, pump / "pump.csv", "-o", "errors.csv", *chosen, cwd=tmp_path)
    with (tmp_path / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["error"]) for row in rows], errors, rtol=1e-5)
    assert [int(row["row"]) for row in rows] == list(range(1, len(errors) + 1))

    lines = works("score", bundle, pump / "pump.csv", *chosen, cwd=tmp_path).stdout.splitlines()
    found = [json.loads(line) for line in lines]
    np.testing.assert_allclose([one["error"] for one in found], errors, rtol=1e-5)
    manifest = json.loads((bundle / "manifest.json").read_text())
    kind = {"litert": "tflite"}.get(engine, "onnx")
    limits = {a["path"]: a["threshold"]["value"] for a in manifest["artifacts"]}
    assert {one["threshold"] for one in found} == {limits[f"scorer.float32.{kind}"]}
    assert [one["anomaly"] for one in found] == [one["error"] > one["threshold"] for one in found]
    assert 0 < sum(one["anomaly"] for one in found) < 0.05 * len(found)


def test_a_broken_sensor_is_called_an_anomaly_by_what_is_used_by_default(pump, table, tmp_path):
    names, rows = table
    broken = rows[:50].copy()
    broken[:, 3] = rows[:, 3].max() + 5 * np.ptp(rows[:, 3])
    write_csv(tmp_path / "broken.csv", names, broken.tolist())
    lines = works("score", pump / "pump.edgeae", "broken.csv", cwd=tmp_path).stdout.splitlines()
    assert len(lines) == 50 and all(json.loads(line)["anomaly"] for line in lines)


def test_columns_are_found_by_name_in_any_order_and_others_are_of_no_concern(pump, table, tmp_path):
    names, rows = table
    turned = [["a note", *reversed(row)] for row in rows[:30].tolist()]
    write_csv(tmp_path / "turned.csv", ["note", *reversed(names)], turned)
    write_csv(tmp_path / "straight.csv", names, rows[:30].tolist())
    found = [
        works("score", pump / "pump.edgeae", f"{name}.csv", cwd=tmp_path).stdout
        for name in ("turned", "straight")
    ]
    assert found[0] == found[1] != ""


def test_the_same_run_exported_by_another_process_gives_the_same_bytes(pump, tmp_path):
    works("export", pump / "pump.run", "--out", "again.edgeae", cwd=tmp_path)
    assert snapshot(tmp_path / "again.edgeae") == snapshot(pump / "pump.edgeae")


def test_constant_columns_and_a_code_larger_than_the_input_are_handled_and_warned_of(table, tmp_path):
    names, rows = table
    rows = rows[:200].copy()
    rows[:, [2, 5]] = [7, 0]
    write_csv(tmp_path / "pump.csv", names, rows.tolist())
    done = works("train", "pump.csv", "--out", "pump.run", "--epochs", 2, "--latent", 21, cwd=tmp_path)
    of_code, of_columns = done.stderr.splitlines()
    assert of_code.startswith("Warning: a code of 21 values is not smaller than the input of 20: ")
    assert of_code.endswith("nothing looks abnormal")
    assert of_columns == (
        "Warning: constant in the training rows: column sensor 2, sensor 5; centred and left unscaled"
    )
    scaler = json.loads((tmp_path / "pump.run" / "run.json").read_text())["scaler"]
    assert (scaler["offset"][2], scaler["gain"][2]) == (7, 1)
    with (tmp_path / "pump.run" / "history.csv").open() as file:
        assert all(np.isfinite(float(row["val_loss"])) for row in csv.DictReader(file))


# --- bad data ------------------------------------------------------------------------------------


@pytest.fixture
def bad(here, table):
    """A function that makes a bad file of a kind; returns its name and what must be said of it."""
    names, rows = table

    def make(kind):
        cells = [list(map(str, row)) for row in rows[:200].tolist()]
        if kind == "missing":
            return "none.csv", "none.csv: no such file"
        if kind == "empty":
            (here / "bad.csv").touch()
            return "bad.csv", "bad.csv: is empty (0 bytes)"
        if kind == "unknown":
            (here / "bad.xlsx").write_bytes(b"PK")
            return "bad.xlsx", "bad.xlsx: unknown kind of file, expected .csv, "
        if kind == "header only":
            cells, told = [], "bad.csv: has no rows"
        elif kind == "text":
            cells[2][1] = "n/a"
            told = "row 3 (line 4), column 'sensor 1': 'n/a' is not a number"
        elif kind in ("nan", "inf"):
            cells[4][0] = kind
            told = f"row 5 (line 6), column 'sensor 0' is {kind}"
        else:
            del cells[1][-1]
            told = "row 2 (line 3) has 19 columns, the header names 20"
        write_csv(here / "bad.csv", names, cells)
        return "bad.csv", told

    return make


KINDS = ["missing", "empty", "unknown", "header only", "text", "nan", "inf", "ragged"]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_data_are_not_trained_on(bad, here, kind):
    name, told = bad(kind)
    assert told in fails("train", name, "--out", "new.run", cwd=here)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("out", [[], ["-o", "kept.csv"]])
def test_bad_data_are_not_scored_and_what_was_written_before_is_kept(bad, here, kind, out):
    (here / "kept.csv").write_text("from before")
    name, told = bad(kind)
    assert told in fails("score", "pump.edgeae", name, *out, cwd=here)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_in_an_array_are_told_by_row(here, value):
    rows = np.ones((300, 20), np.float32)
    rows[6, 3] = value
    np.save(here / "bad.npy", rows)
    told = f"bad.npy: row 7 holds {value}; every value must be finite"
    assert told in fails("train", "bad.npy", "--out", "new.run", cwd=here)
    assert told in fails("score", "pump.edgeae", "bad.npy", cwd=here)


def test_the_wrong_number_of_columns_is_told_with_what_was_expected_and_found(here, table):
    np.save(here / "bad.npy", np.ones((5, 19), np.float32))
    line = fails("score", "pump.edgeae", "bad.npy", "-o", "errors.csv", cwd=here)
    assert "expected" in line and "20" in line and "(5, 19)" in line
    line = fails("embed", "pump.edgeae", "bad.npy", "-o", "codes.npy", cwd=here)
    assert "expected" in line and "20" in line and "(5, 19)" in line
    write_csv(here / "bad.csv", table[0][:-1], table[1][:5, :-1].tolist())
    assert "bad.csv: has no column 'sensor 19'" in fails("score", "pump.edgeae", "bad.csv", cwd=here)


def test_fewer_rows_than_a_batch_are_told_with_the_numbers(here):
    np.save(here / "few.npy", np.random.default_rng(0).normal(size=(60, 5)))
    assert fails("train", "few.npy", "--out", "few.run", cwd=here) == (
        "54 rows to train on are fewer than a batch of 128; give more rows, or --batch-size 13"
    )


# --- bad targets ---------------------------------------------------------------------------------


def test_what_exists_is_refused_without_force_at_once(here, pump):
    shutil.copytree(pump / "pump.run", here / "pump.run")
    told = "exists already; choose another name or pass --force"
    for command in (["train", "pump.csv"], ["demo"]):
        assert fails(*command, "--out", "pump.run", cwd=here) == f"pump.run: {told}"
    assert fails("export", "pump.run", "--out", "pump.edgeae", cwd=here) == f"pump.edgeae: {told}"


def test_what_exists_is_replaced_with_force_unless_it_is_something_else(here, pump):
    (here / "mine").mkdir()
    (here / "mine" / "mine.txt").write_text("mine")
    for command in (["train", "pump.csv"], ["export", pump / "pump.run"], ["demo"]):
        assert "so not one to replace" in fails(*command, "--out", "mine", "--force", cwd=here)
    only = ["--formats", "onnx", "--precisions", "float32"]
    done = works("export", pump / "pump.run", "--out", "pump.edgeae", "--force", *only, cwd=here)
    made = [f"{role}.float32.onnx" for role in ("encoder", "decoder", "scorer")]
    assert set(snapshot(here / "pump.edgeae")) == {*made, "manifest.json", "manifest.sha256", "golden.npz"}
    for name in made:
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"{name} ")]
        assert f" {(here / 'pump.edgeae' / name).stat().st_size:,} " in line


def test_a_target_in_a_folder_that_is_not_there_is_told_before_any_work(here, pump):
    told = "its folder none does not exist; create it first"
    assert told in fails("train", "pump.csv", "--out", "none/new.run", cwd=here)
    assert told in fails("export", pump / "pump.run", "--out", "none/new.edgeae", cwd=here)
    assert told in fails("score", "pump.edgeae", "pump.csv", "-o", "none/errors.csv", cwd=here)


def test_an_unknown_output_format_is_told(here):
    assert fails("score", "pump.edgeae", "pump.csv", "-o", "errors.xlsx", cwd=here) == (
        "errors.xlsx: unknown output format '.xlsx'; use .npy, .csv, .jsonl or .parquet"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "digits", "--out", "x.run", "--epochs", "0"],
        ["train", "digits", "--out", "x.run", "--loss", "none"],
        ["export", "x.run", "--out", "x.edgeae", "--formats", "onxx"],
        ["export", "x.run", "--out", "x.edgeae", "--precisions", "int4"],
        ["score", "pump.edgeae"],
        ["score", "pump.edgeae", "pump.csv", "--precision", "int4"],
        ["nothing"],
    ],
)
def test_a_wrong_usage_is_told_in_clicks_own_form(here, arguments):
    before = snapshot(here)
    done = edgeae(*arguments, cwd=here)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: edgeae ")
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert snapshot(here) == before


# --- bad runs and bundles ------------------------------------------------------------------------


def test_a_run_that_is_missing_incomplete_or_too_small_is_told(here, pump):
    assert "none.run" in fails("export", "none.run", "--out", "new.edgeae", cwd=here)
    shutil.copytree(pump / "pump.run", here / "pump.run")
    held_out = np.load(here / "pump.run" / "holdout.npy")
    np.save(here / "pump.run" / "holdout.npy", held_out[:19])
    assert fails("export", "pump.run", "--out", "new.edgeae", cwd=here).startswith(
        "19 held-out rows are too few to calibrate and to set a threshold, at least 20 are needed"
    )
    (here / "pump.run" / "holdout.npy").unlink()
    assert fails("export", "pump.run", "--out", "new.edgeae", cwd=here) == (
        "pump.run: not a run folder (holdout.npy is missing); make one with `edgeae train`"
    )


BUNDLE_FAULTS = {
    "missing": "scorer.int8.onnx is missing; copy the whole bundle again",
    "truncated": "scorer.int8.onnx has 1000 bytes, the manifest says ",
    "altered": "scorer.int8.onnx was altered (SHA-256 ",
}


def spoil_bundle(bundle, fault):
    path = bundle / "scorer.int8.onnx"
    content = bytearray(path.read_bytes())
    if fault == "missing":
        path.unlink()
    elif fault == "truncated":
        path.write_bytes(content[:1000])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("fault", BUNDLE_FAULTS)
def test_a_bundle_with_a_bad_file_does_not_score_and_does_not_verify(here, fault):
    spoil_bundle(here / "pump.edgeae", fault)
    line = fails("score", "pump.edgeae", "pump.csv", "-o", "errors.csv", cwd=here)
    assert line.startswith("pump.edgeae: ") and BUNDLE_FAULTS[fault] in line
    assert fails("verify", "pump.edgeae", cwd=here, status=3, printed=None) == (
        "pump.edgeae: 1 of 12 artifacts failed: scorer.int8.onnx"
    )
    checks = json.loads(edgeae("verify", "pump.edgeae", "--json", cwd=here).stdout)
    (failed,) = [check for check in checks if check["status"] == "failed"]
    assert BUNDLE_FAULTS[fault] in failed["detail"]
    works("embed", "pump.edgeae", "pump.csv", "-o", "codes.npy", cwd=here)  # which is another file


def test_golden_rows_that_are_altered_are_told(here):
    path = here / "pump.edgeae" / "golden.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "golden.npz was altered" in fails("verify", "pump.edgeae", cwd=here)


def test_an_artifact_that_says_something_else_than_when_it_was_exported_is_found_by_verify(here):
    """As if this machine computed differently: the file is whole, the golden outputs are others."""
    folder = here / "pump.edgeae"
    with np.load(folder / "golden.npz") as arrays:
        golden = dict(arrays)
    golden["scorer.float32.onnx:error"] = golden["scorer.float32.onnx:error"] * np.float32(1.01)
    np.savez(folder / "golden.npz", **golden)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["golden.npz"] = hashlib.sha256((folder / "golden.npz").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    (folder / "manifest.sha256").write_text(digest)
    assert fails("verify", "pump.edgeae", cwd=here, status=3, printed=None) == (
        "pump.edgeae: 1 of 12 artifacts failed: scorer.float32.onnx"
    )


@pytest.mark.parametrize("command", [["info"], ["verify"], ["score", "pump.csv"], ["embed", "pump.csv"]])
def test_a_manifest_of_a_newer_format_missing_or_damaged_is_told(here, command):
    path = here / "pump.edgeae" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.with_name("manifest.sha256").unlink()  # which would tell of any change
    name, *data = command
    path.write_text(json.dumps(manifest | {"format_version": 3, "needs_runtime": "9.0", "new": "field"}))
    line = fails(name, "pump.edgeae", *data, cwd=here)
    assert line.startswith(
        "pump.edgeae: bundle format 3 needs edgeae-runtime 9.0 or newer, and this is 0.1.0;"
    )
    path.write_text(json.dumps(manifest)[:-100])
    assert "manifest.json is not valid (" in fails(name, "pump.edgeae", *data, cwd=here)
    path.unlink()
    assert "manifest.json is missing" in fails(name, "pump.edgeae", *data, cwd=here)
    assert "none.edgeae: no such bundle" in fails(name, "none.edgeae", *data, cwd=here)


# --- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def full_disk(tmp_path):
    """A folder in which 24 kB are left, and what a command must be started with for it to be so."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode == 0:
        (folder / "filler").write_bytes(bytes(40 * 1024))
        yield folder, {}
        subprocess.run(["umount", folder], check=True)
    else:  # no right to mount: instead no file may grow beyond 4 kB, which is refused in the same way
        limit = (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        yield folder, {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)}


def test_on_a_full_disk_nothing_is_changed(full_disk, here, pump):
    disk, how = full_disk
    for name, mark in (("pump.run", "run.json"), ("pump.edgeae", "manifest.json")):
        (disk / name).mkdir()
        (disk / name / mark).write_text("from before")
    for kind in ("npy", "csv", "jsonl"):
        (disk / f"errors.{kind}").write_text("from before")
    only = ["--formats", "onnx", "--precisions", "float32"]
    for command in (
        ["train", "pump.csv", "--epochs", 1, "--force", "--out", "full/pump.run"],
        ["export", pump / "pump.run", *only, "--force", "--out", "full/pump.edgeae"],
        ["score", "pump.edgeae", "pump.csv", "-o", "full/errors.npy"],
        ["score", "pump.edgeae", "pump.csv", "-o", "full/errors.csv"],
        ["score", "pump.edgeae", "pump.csv", "-o", "full/errors.jsonl"],
    ):
        if how and command[0] == "export":
            continue  # whose converters need larger files, elsewhere
        line = fails(*command, cwd=here, printed=None, **how)
        assert line.startswith(command[-1])  # or a name beside it, for what is kept while training
        assert ": cannot be written (" in line and line.endswith("; nothing was changed")


def test_a_full_disk_behind_standard_output_is_told_in_one_line_too(here):
    with open("/dev/full", "w") as full:
        line = fails("score", "pump.edgeae", "pump.csv", cwd=here, stdout=full, printed=None)
    assert "No space left on device" in line


# --- help ----------------------------------------------------------------------------------------


def test_every_command_is_known():
    assert {"train", "export", "demo", "embed", "score", "info", "verify"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_commands_help_has_an_example(name, tmp_path):
    text = works(name, "--help", cwd=tmp_path).stdout
    lines = text[text.index("Examples:\n") :].splitlines()[1:]
    assert any(line.startswith(f"    edgeae {name}") for line in lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name):
    assert f"edgeae {name}" in (ROOT / "README.md").read_text(encoding="utf-8")


HEAVY = ("tensorflow", "keras", "onnxruntime", "ai_edge_litert", "onnx", "sklearn", "matplotlib", "scipy")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_asking_for_help_imports_neither_a_training_stack_nor_an_engine(arguments, tmp_path):
    script = f"""
import sys
from edgeae_runtime.cli.main import main
try:
    main({arguments!r})
except SystemExit as done:
    assert not done.code
imported = [name for name in {HEAVY!r} if name in sys.modules]
assert not imported, imported
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("package", ["edgeae", "edgeae_export", "edgeae_runtime"])
def test_importing_a_package_imports_neither_a_training_stack_nor_an_engine(package, tmp_path):
    script = f"import sys, {package}; assert not [m for m in {HEAVY!r} if m in sys.modules]"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
