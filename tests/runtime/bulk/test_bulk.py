"""Many rows and many files: the same bytes however they are run, and after a kill -9 at any moment."""

import errno
import gzip
import importlib.metadata
import json
import lzma
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from pathlib import Path

import click.testing
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgeae_runtime import EdgeaeWarning, Input, OutputError, load
from edgeae_runtime.bulk import resume
from edgeae_runtime.bulk.results import encode
from edgeae_runtime.bulk.resume import read_run, resumable
from edgeae_runtime.bulk.samples import sample_units, unit_rows
from edgeae_runtime.bulk.work import in_order, plan
from edgeae_runtime.cli.main import main
from edgeae_runtime.engines.base import BATCH_ROWS
from edgeae_runtime.names import RESULT_SUFFIXES

COLUMNS = ["temperature", "pressure", "vibration", "voltage", "current", "speed"]


@pytest.fixture(scope="module")
def many(rows, tmp_path_factory) -> Path:
    """A file of 70,000 readings, which is more than four units of work."""
    path = tmp_path_factory.mktemp("many") / "many.npy"
    factors = np.float32(np.random.default_rng(0).normal(1, 0.01, (70, 1, 1)))
    np.save(path, (rows * factors).reshape(-1, rows.shape[1]))
    return path


# --- units of work -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 784, 1025, 65_536, 2_000_000])
def test_a_unit_is_of_whole_batches_or_a_few_rows_and_of_bounded_memory(size) -> None:
    rows = unit_rows(Input(shape=(size,)))
    assert rows >= 1
    assert rows % BATCH_ROWS == 0 or rows < BATCH_ROWS
    assert rows == 1 or rows * size * 4 <= 2**22


@pytest.mark.parametrize("pieces", [7, 1000, 100_000])
def test_however_a_file_is_read_it_is_cut_at_the_same_rows(many, monkeypatch, pieces) -> None:
    monkeypatch.setattr("edgeae_runtime.readers.npy.MOST_AT_ONCE", 0)
    monkeypatch.setattr("edgeae_runtime.readers.npy.PIECE_VALUES", 6 * pieces)
    shares: list[float] = []
    units = list(sample_units(Input(shape=(6,)), many, shares.append))
    assert [len(values) for _, values in units] == [16_384] * 4 + [70_000 - 4 * 16_384]
    assert np.concatenate([numbers for numbers, _ in units]).tolist() == list(range(1, 70_001))
    np.testing.assert_array_equal(np.concatenate([values for _, values in units]), np.load(many))
    assert shares == sorted(shares) and shares[-1] == 1


def test_results_come_in_order_and_few_items_are_taken_ahead() -> None:
    taken = 0

    def items():
        nonlocal taken
        while taken < 100:
            taken += 1
            yield taken

    def work(item: int) -> int:
        time.sleep(random.Random(item).random() / 500)
        return item

    for done, found in enumerate(in_order(work, items(), 3), 1):
        assert found == done
        assert taken <= done + 6


# --- the same bytes however they are made --------------------------------------------------------


@pytest.mark.parametrize("suffix", RESULT_SUFFIXES)
def test_threads_change_no_byte(tiny, many, engine, run, tmp_path, suffix) -> None:
    for threads in (1, 3):
        run(
            "score",
            tiny,
            many,
            "-o",
            tmp_path / f"{threads}{suffix}",
            "--threads",
            threads,
            "--engine",
            engine,
        )
    assert (tmp_path / f"1{suffix}").read_bytes() == (tmp_path / f"3{suffix}").read_bytes()


def test_the_same_readings_give_the_same_in_every_format(tiny, rows, run, tmp_path) -> None:
    np.save(tmp_path / "x.npy", rows)
    names = COLUMNS[::-1]
    pq.write_table(pa.table(dict(zip(names, rows.T[::-1], strict=True))), tmp_path / "x.parquet", 300)
    lines = [",".join(map(repr, row)) for row in rows[:, ::-1].tolist()]
    text = "\n".join([",".join(names), *lines, ""]).encode()
    (tmp_path / "x.csv").write_bytes(text)
    (tmp_path / "x.csv.xz").write_bytes(lzma.compress(text))
    objects = [dict(zip(names, row, strict=True)) for row in rows[:, ::-1].tolist()]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, objects)))
    kinds = ("npy", "csv", "parquet", "csv.xz", "jsonl")
    found = {run("embed", tiny, tmp_path / f"x.{kind}").stdout for kind in kinds}
    assert len(found) == 1
    assert found.pop().count("\n") == len(rows)


def test_windows_of_a_parquet_file_are_those_of_the_csv_and_cross_no_file(bundle, run, tmp_path) -> None:
    with bundle.manifest() as manifest:
        manifest["input"] = {"shape": [3, 2], "features": ["heat", "load"], "window": 3, "stride": 2}
        scaler = manifest["scaler"]
        scaler["offset"], scaler["gain"] = scaler["offset"][:2], scaler["gain"][:2]
    heat, load_ = np.float32(np.random.default_rng(0).normal(size=(2, 40)))
    start = datetime(2026, 1, 31, 23)
    times = [start + timedelta(minutes=i + 30 * (i > 24)) for i in range(40)]
    for name, part in (("a", slice(0, 20)), ("b", slice(20, 40))):
        table = pa.table({"load": load_[part], "when": times[part], "heat": heat[part]})
        pq.write_table(table, tmp_path / f"{name}.parquet", 7)
        cells = zip(load_[part].tolist(), times[part], heat[part].tolist(), strict=True)
        lines = [f"{a},{b},{c}" for a, b, c in cells]
        (tmp_path / f"{name}.csv").write_text("\n".join(["load,when,heat", *lines, ""]))
    expected = load(bundle.path).score
    for kind in ("csv", "parquet"):
        files = [tmp_path / f"{name}.{kind}" for name in "ab"]
        run("score", bundle.path, *files, "-o", tmp_path / kind, "--format", "parquet", "--threads", 1)
        for name, begins in (("a", range(0, 18, 2)), ("b", [20, 22, *range(25, 38, 2)])):
            table = pq.read_table(tmp_path / kind / f"{name}.parquet")
            first = 0 if name == "a" else 20
            assert table["row"].to_pylist() == [begin + 3 - first for begin in begins]
            series = np.stack([heat, load_], axis=1)
            windows = np.stack([series[begin : begin + 3] for begin in begins])
            np.testing.assert_array_equal(table["error"].to_numpy(), expected(windows))


@pytest.mark.filterwarnings("always::edgeae_runtime.errors.EdgeaeWarning")
def test_a_warning_of_a_process_is_told_here(bundle, run, tmp_path) -> None:
    with bundle.manifest() as manifest:
        manifest["input"] = {"shape": [3, 2], "features": ["heat", "load"], "window": 3, "stride": 1}
        scaler = manifest["scaler"]
        scaler["offset"], scaler["gain"] = scaler["offset"][:2], scaler["gain"][:2]
    start = datetime(2026, 1, 31)
    times = [start + timedelta(minutes=i - 60 * (i >= 1500)) for i in range(3000)]
    for name in "ab":
        lines = [f"{time},1,2" for time in times]
        (tmp_path / f"{name}.csv").write_text("\n".join(["when,heat,load", *lines, ""]))
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    told = run("score", bundle.path, *files, "-o", tmp_path / "out", "--threads", 2).stderr.splitlines()
    assert sorted(line.split(": row")[0] for line in told) == [f"Warning: {path}" for path in files]


def test_parquet_without_pyarrow_is_told(tiny, tmp_path, monkeypatch, refused) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    for words in (
        [tmp_path / "x.parquet"],
        [tmp_path / "x.npy", "-o", tmp_path / "out.parquet"],
        [tmp_path / "x.npy", "-o", tmp_path / "out", "--format", "parquet"],
    ):
        told = refused("score", tiny, *words)
        assert told.startswith("pyarrow is not installed here (")
        assert told.endswith("; pip install 'edgeae-runtime[parquet]'")


# --- standard input ------------------------------------------------------------------------------


def piped(content: bytes, *arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, [str(argument) for argument in arguments], input=content)


@pytest.fixture(scope="module")
def text(many) -> bytes:
    """The 70,000 readings as a CSV."""
    lines = [",".join(map(repr, row)) for row in np.load(many).tolist()]
    return "\n".join([",".join(COLUMNS), *lines, ""]).encode()


def test_what_is_piped_in_gives_the_bytes_that_its_file_gives(tiny, many, text, run, tmp_path) -> None:
    run("score", tiny, many, "-o", tmp_path / "file.csv")
    expected = (tmp_path / "file.csv").read_bytes()
    for content in (text, gzip.compress(text, 1)):
        done = piped(content, "score", tiny, "-", "-o", tmp_path / "piped.csv")
        assert (done.exit_code, done.output) == (0, "")
        assert (tmp_path / "piped.csv").read_bytes() == expected
    lines = piped(text[: text.index(b"\n", 999) + 1], "embed", tiny, "-").stdout.splitlines()
    assert lines == run("embed", tiny, many).stdout.splitlines()[: len(lines)] and len(lines) > 5


def test_standard_input_is_another_each_time_so_nothing_of_it_goes_on(tiny) -> None:
    job = plan("score", tiny, "auto", "auto", None, ".csv")
    assert job.record(Path("-")) != job.record(Path("-"))
    assert job.record(Path("x")) == job.record(Path("x"))


@pytest.mark.parametrize(
    "words",
    [
        ["-", "x.csv", "-o", "out"],
        ["-", "-", "-o", "out"],
        ["-", "-o", "out", "--format", "csv"],
        ["-", "--on", "ray"],
    ],
)
def test_standard_input_goes_alone_and_stays_here(tiny, words) -> None:
    done = piped(b"a\n1\n", "score", tiny, *words)
    assert done.exit_code == 2
    assert "Error: DATA - is standard input, which goes alone" in " ".join(done.stderr.split())


def test_a_fault_in_standard_input_is_told_in_one_line_and_leaves_nothing(tiny, text, tmp_path) -> None:
    bad = text + b"1,2,3,4,5,hot\n"
    done = piped(bad, "score", tiny, "-", "-o", tmp_path / "out.csv")
    assert done.exit_code == 1 and not list(tmp_path.iterdir())
    assert done.stderr == (
        "Error: standard input: row 70001 (line 70002), column 'speed': 'hot' is not a number; remove or "
        "repair the row\n"
    )


# --- a folder of results -------------------------------------------------------------------------


@pytest.fixture
def files(rows, tmp_path) -> list[Path]:
    """Three files in a folder."""
    (tmp_path / "in").mkdir()
    for i in range(3):
        np.save(tmp_path / "in" / f"{i}.npy", rows[i * 300 : i * 300 + 300])
    return sorted((tmp_path / "in").iterdir())


def changed(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("[!.]*")}


def test_of_several_files_each_has_a_result_and_only_what_changed_is_redone(
    tiny, rows, files, run, tmp_path
) -> None:
    words = ["score", tiny, *files, "-o", tmp_path / "out", "--format", "npy", "--threads", 2]
    assert run(*words).output == ""
    for i in range(3):
        expected = load(tiny).score(rows[i * 300 : i * 300 + 300])
        np.testing.assert_array_equal(np.load(tmp_path / "out" / f"{i}.npy"), expected)
    before = changed(tmp_path / "out")
    assert run(*words).stderr == f"{tmp_path}/out: 3 of 3 are done already\n"
    assert changed(tmp_path / "out") == before
    np.save(files[1], rows[:10])
    (tmp_path / "out" / "2.npy").write_bytes(b"cut off")
    assert run(*words).stderr == f"{tmp_path}/out: 1 of 3 are done already\n"
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "1.npy"), load(tiny).score(rows[:10]))
    assert len(np.load(tmp_path / "out" / "2.npy")) == 300
    assert changed(tmp_path / "out")["0.npy"] == before["0.npy"]


def test_a_file_that_is_wrong_stops_the_run_and_the_others_stay_done(tiny, files, run, tmp_path) -> None:
    good = np.load(files[2])
    np.save(files[2], np.full((3, 6), np.nan))
    words = ["embed", tiny, *files, "-o", tmp_path / "out", "--threads", 1]
    with pytest.raises(AssertionError, match=r"2\.npy: row 1 holds nan"):
        run(*words)
    assert sorted(changed(tmp_path / "out")) == ["0.csv", "1.csv"]
    np.save(files[2], good)
    assert run(*words).stderr == f"{tmp_path}/out: 2 of 3 are done already\n"


def test_a_folder_of_another_run_or_of_something_else_is_refused(tiny, files, run, refused, tmp_path) -> None:
    run("score", tiny, *files, "-o", tmp_path / "out")
    told = "choose another folder, or remove it"
    for words, differs in (
        (["embed", tiny, *files], "command"),
        (["score", tiny, *files, "--precision", "float32"], "precision"),
        (["score", tiny, *files, "--engine", "litert"], "engine, versions"),
        (["score", tiny, *files, "--format", "npy"], "suffix"),
    ):
        found = refused(*words, "-o", tmp_path / "out")
        assert found == f"{tmp_path}/out: holds results that differ in {differs}; {told}"
    found = refused("score", tiny, *files, "-o", tmp_path / "in")
    assert found.startswith(f"{tmp_path}/in: is a folder without .edgeae.json")
    found = refused("score", tiny, *files, "-o", files[0])
    assert found == f"{files[0]}: is a file; the results of several files need a folder"
    for name in ("0.csv", "0.csv.gz"):
        found = refused("score", tiny, files[0], tmp_path / name, "-o", tmp_path / "two")
        assert found.startswith(f"{tmp_path}/two/0.csv: would be the result of {files[0]} and of another; ")
    (tmp_path / "out" / ".edgeae.json").write_text("{}")
    found = refused("score", tiny, *files, "-o", tmp_path / "out")
    assert found == f"{tmp_path}/out: its .edgeae.json cannot be read; choose another folder"
    assert "need --out FOLDER" in refused_usage(tiny, files)


def test_another_input_of_the_same_name_size_and_time_is_not_taken_for_the_first(
    tiny, rows, run, refused, tmp_path
) -> None:
    for name, part in (("a", rows[:9]), ("b", rows[9:18])):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", part)
        os.utime(tmp_path / name / "x.npy", (10**9, 10**9))
    words = ["-o", tmp_path / "out", "--format", "npy"]
    run("score", tiny, tmp_path / "a" / "x.npy", *words)
    told = refused("score", tiny, tmp_path / "b" / "x.npy", *words)
    result = tmp_path / "out" / "x.npy"
    assert told == f"{result}: is the result of {tmp_path}/a/x.npy; choose another name, or remove it"
    result.unlink()
    assert run("score", tiny, tmp_path / "b" / "x.npy", *words).stderr == ""
    os.replace(tmp_path / "a" / "x.npy", tmp_path / "b" / "x.npy")  # its time of change goes along
    assert run("score", tiny, tmp_path / "b" / "x.npy", *words).stderr == ""
    np.testing.assert_array_equal(np.load(result), load(tiny).score(rows[:9]))


def test_a_result_never_replaces_its_own_input(tiny, files, rows, run, refused, tmp_path) -> None:
    told = "is the input itself; choose another name"
    assert refused("embed", tiny, files[0], "-o", files[0]) == f"{files[0]}: {told}"
    run("embed", tiny, *files, "-o", tmp_path / "out", "--format", "npy")
    inside, link = tmp_path / "out" / "x.npy", tmp_path / "x.npy"
    np.save(inside, rows[:3])
    link.symlink_to(inside)
    for path in (inside, link):
        found = refused("embed", tiny, path, "-o", tmp_path / "out", "--format", "npy")
        assert found == f"{inside}: {told}"


def test_ray_has_nothing_to_do_where_all_is_done(tiny, files, run, tmp_path, monkeypatch) -> None:
    words = ["embed", tiny, *files, "-o", tmp_path / "out", "--threads", 1]
    run(*words)
    monkeypatch.setitem(sys.modules, "ray", None)  # not even needed
    done = f"{tmp_path}/out: 3 of 3 are done already\n"
    assert run(*words, "--on", "ray").stderr == done
    old = "Warning: --engine ray is spelled --on ray now; the old way still works\n"
    with warnings.catch_warnings(action="always", category=EdgeaeWarning):
        assert run(*words, "--engine", "ray").stderr == old + done


def test_on_ray_the_engine_may_be_chosen_and_help_shows_the_new_spelling_alone(
    tiny, files, run, tmp_path
) -> None:
    words = ["score", tiny, *files, "-o", tmp_path / "out", "--threads", 1]
    run(*words, "--engine", "litert", "--precision", "float32")
    chosen = ["--on", "ray", "--engine", "litert", "--precision", "float32"]
    assert run(*words, *chosen).stderr == f"{tmp_path}/out: 3 of 3 are done already\n"
    (line,) = (line for line in run("score", "--help").stdout.splitlines() if "--engine" in line)
    assert "litert" in line and "ray" not in line


def test_a_worker_that_is_killed_is_told_and_the_command_can_be_given_again(
    tiny, files, run, tmp_path, monkeypatch
) -> None:
    words = ["embed", tiny, *files, "-o", tmp_path / "out", "--threads"]

    def kill_and_wait(*arguments: object) -> object:
        multiprocessing.active_children()[0].kill()
        return wait(*arguments)

    told = r"Error: a worker process was killed \(out of memory\?\); give the same command again\n"
    with monkeypatch.context() as patch:
        patch.setattr("edgeae_runtime.bulk.processes.wait", kill_and_wait)  # all processes are there by then
        with pytest.raises(AssertionError, match=told):
            run(*words, 2)
    run(*words, 1)
    assert sorted(changed(tmp_path / "out")) == ["0.csv", "1.csv", "2.csv"]


@pytest.mark.parametrize("name", ["x" * 300 + ".npy", "x" * 300 + "/x.npy"])
def test_an_input_whose_name_the_system_refuses_is_told(tiny, files, run, tmp_path, name) -> None:
    for words in (["-o", tmp_path / "out.csv"], [files[0], "-o", tmp_path / "out", "--threads", 1]):
        with pytest.raises(AssertionError, match=r"Error: .*File name too long"):
            run("embed", tiny, tmp_path / name, *words)


def test_an_input_in_a_folder_whose_name_is_not_utf8_is_scored(tiny, files, run, tmp_path) -> None:
    folder = tmp_path / os.fsdecode(b"gem\xe4ss")
    folder.mkdir()
    files[0].rename(folder / "x.npy")
    words = ["score", tiny, folder / "x.npy", "-o", tmp_path / "out", "--format", "npy"]
    run(*words)
    assert run(*words).stderr == f"{tmp_path}/out: 1 of 1 are done already\n"


def test_an_engine_that_is_not_installed_is_told(tiny, files, tmp_path, monkeypatch, refused) -> None:
    def none(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.Distribution.from_name", none)
    for module in ("ai_edge_litert", "ai_edge_litert.interpreter"):
        monkeypatch.setitem(sys.modules, module, None)
    told = refused("score", tiny, *files, "-o", tmp_path / "out", "--engine", "litert")
    assert told.startswith("litert is not installed here (")
    assert told.endswith("; pip install 'edgeae-runtime[litert]'")


def refused_usage(tiny: Path, files: list[Path]) -> str:
    command = Path(sys.executable).with_name("edgeae")
    done = subprocess.run([command, "score", tiny, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    return done.stderr


# --- kill -9 -------------------------------------------------------------------------------------

EAGER = (  # notes after each unit of work how far it is, so that a short run has something to resume
    "import sys; from edgeae_runtime.bulk import resume; resume.SAVE_SECONDS = 0\n"
    "from edgeae_runtime.cli.main import main; main(sys.argv[1:])"
)


def run_until(moment: Callable[[], bool], *words: object) -> bool:
    """Run a command and kill it at the moment; tell whether it was faster."""
    with subprocess.Popen([sys.executable, "-c", EAGER, *map(str, words)]) as process:
        while process.poll() is None and not moment():
            time.sleep(0.001)
        time.sleep(random.random() / 50)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode == 0


def bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_killed_at_any_moment_and_run_again_the_file_is_the_same(tiny, many, run, tmp_path, suffix) -> None:
    np.save(tmp_path / "more.npy", np.tile(np.load(many), (4, 1)))
    words = ["score", tiny, tmp_path / "more.npy", "--threads", 2, "-o"]
    run(*words, tmp_path / f"whole{suffix}")
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    out, growing = tmp_path / f"killed{suffix}", tmp_path / f".killed{suffix}.partial"
    moments = [
        lambda share=share: bytes_of(growing) > share * len(whole) for share in (0, 0.3, 0.3, 0.6, 0.9)
    ]
    if suffix == ".parquet":  # made in a second step
        moments.append(growing.with_name(f"{growing.name}.finished").exists)
    for moment in moments:
        if run_until(moment, *words, out):  # the system had stopped us, and not the command
            out.unlink()
    if read_run(out):
        assert growing.stat().st_size > 0
    assert run_until(lambda: False, *words, out)
    assert out.read_bytes() == whole
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.slow
def test_killed_among_many_files_and_run_again_the_folder_is_the_same(tiny, many, run, tmp_path) -> None:
    values = np.load(many)
    files = [tmp_path / f"{i}.npy" for i in range(6)]
    for i, path in enumerate(files):
        np.save(path, values + np.float32(i / 1000))
    run("embed", tiny, *files, "-o", tmp_path / "whole", "--threads", 1)
    out = tmp_path / "killed"
    words = ["embed", tiny, *files, "-o", out, "--threads", 2]
    for count in (0, 1, 3, 4):
        run_until(lambda count=count: len(list(out.glob("*.csv"))) >= count and out.exists(), *words)
    assert run_until(lambda: False, *words)
    for path in (tmp_path / "whole").glob("*.csv"):
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


# --- the journal ---------------------------------------------------------------------------------


@pytest.fixture
def eager(monkeypatch) -> None:
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0)


class Stop(BaseException):
    """Stands for a Ctrl-C."""


def write_two(out: Path, record: bytes = b"{}") -> int:
    """Write two of three units; return how many were there before."""
    with pytest.raises(Stop), resumable(out, record) as partial:
        before = partial.units
        partial.append(b"one")
        partial.append(b"two")
        raise Stop
    return before


@pytest.mark.usefixtures("eager")
def test_an_interrupted_file_goes_on_behind_the_last_unit_noted(tmp_path) -> None:
    out = tmp_path / "out.csv"
    assert write_two(out) == 0
    with (tmp_path / ".out.csv.partial").open("ab") as file:
        file.write(b"half a uni")
    with (tmp_path / ".out.csv.journal").open("ab") as file:
        file.write(b"\n3 9")  # torn: the line has no end
    with resumable(out, b"{}") as partial:
        assert partial.units == 2
        partial.append(b"three")
    assert out.read_bytes() == b"onetwothree"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("damage", ["other record", "shorter file", "garbage", "no file"])
def test_what_is_there_of_another_run_or_damaged_is_begun_again(tmp_path, damage) -> None:
    out, partial = tmp_path / "out.csv", tmp_path / ".out.csv.partial"
    write_two(out, b"other" if damage == "other record" else b"{}")
    if damage == "shorter file":
        partial.write_bytes(b"onetw")
    elif damage == "garbage":
        (tmp_path / ".out.csv.journal").write_bytes(b"{}\n\xff\xfe.\n")
    elif damage == "no file":
        partial.unlink()
    assert write_two(out) == 0
    assert partial.read_bytes() == b"onetwo"


def test_two_processes_do_not_write_one_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(resume, "LOCK_SECONDS", 0)
    with resumable(tmp_path / "out.csv", b"{}") as partial:
        partial.append(b"one")
        with (
            pytest.raises(OutputError, match=r"out\.csv: another process is writing it"),
            resumable(tmp_path / "out.csv", b"{}"),
        ):
            pass
    assert (tmp_path / "out.csv").read_bytes() == b"one"


def test_one_that_waited_for_another_does_not_touch_what_that_has_written(tmp_path) -> None:
    out = tmp_path / "out.csv"

    def wait_for_it() -> None:
        with resumable(out, b"{}") as partial:
            partial.append(b"two")

    with ThreadPoolExecutor() as pool:
        with resumable(out, b"{}") as partial:
            partial.append(b"one")
            second = pool.submit(wait_for_it)
            time.sleep(0.2)  # it has opened the file by now
        with pytest.raises(OutputError, match=r"out\.csv: another process has just written it"):
            second.result()
    assert out.read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_a_disk_that_is_full_at_the_last_step_keeps_what_was_computed(tmp_path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(resume, "SAVE_SECONDS", 0)
    out = tmp_path / "out.parquet"
    records = encode((range(1, 3), {"error": np.ones(2, np.float32)}), ".parquet", first=True)
    with monkeypatch.context() as patch, pytest.raises(OutputError, match=r"out\.parquet: cannot be written"):
        patch.setattr("pyarrow.parquet.ParquetWriter.write_table", full)
        with resumable(out, b"{}") as partial:
            partial.append(records)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".out.parquet.journal",
        ".out.parquet.partial",
    ]
    with resumable(out, b"{}") as partial:
        assert partial.units == 1
    assert pq.read_table(out)["error"].to_pylist() == [1, 1]


@pytest.mark.parametrize("suffix", RESULT_SUFFIXES)
def test_a_full_disk_keeps_the_old_file_whole(
    tiny, many, tmp_path, snapshot, full_disk, refused, suffix
) -> None:
    out = tmp_path / f"errors{suffix}"
    out.write_bytes(b"old")
    with full_disk():
        told = refused("score", tiny, many, "-o", out)
    assert told.startswith(f"{out}: cannot be written (")
    assert snapshot(tmp_path) == {out.name: b"old"}


def test_auto_means_on_resuming_what_it_meant_before(tiny, many, run, tmp_path) -> None:
    words = ["score", tiny, many, "-o", tmp_path / "out", "--format", "npy"]
    run(*words, "--engine", "litert", "--precision", "float32")
    expected = load(tiny, engine="litert", precision="float32").score(np.load(many))
    for given in ([], ["--engine", "litert"], ["--precision", "float32"]):
        os.remove(tmp_path / "out" / "many.npy")
        run(*words, *given)
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "many.npy"), expected)
