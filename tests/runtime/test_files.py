import errno
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgeae_runtime import Bundle, BundleError, OutputError, files
from edgeae_runtime.errors import EdgeaeWarning
from edgeae_runtime.files import check_target, new_file, new_folder, recover


class Broken(Exception):
    """What goes wrong in a caller's block."""


def told(call) -> str:
    with pytest.raises(OutputError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def use(context) -> None:
    with context as path:
        (path / "a" if path.is_dir() else path).write_text("new")


# --- folders -------------------------------------------------------------------------------------


def test_a_folder_appears_with_all_that_was_written(tmp_path, snapshot) -> None:
    with new_folder(tmp_path / "pump.edgeae") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "b").write_text("two")
        (folder / "a").write_text("one")
        assert not (tmp_path / "pump.edgeae").exists()
    expected = {"pump.edgeae": None, "pump.edgeae/a": b"one", "pump.edgeae/sub": None}
    assert snapshot(tmp_path) == {**expected, "pump.edgeae/sub/b": b"two"}


def test_a_folder_is_replaced_as_a_whole_when_forced(tmp_path, snapshot) -> None:
    target = tmp_path / "pump.edgeae"
    target.mkdir()
    (target / "old").write_text("old")
    with new_folder(target, force=True) as folder:
        (folder / "a").write_text("one")
        assert (target / "old").read_text() == "old"  # readers are served until the end
    assert snapshot(tmp_path) == {"pump.edgeae": None, "pump.edgeae/a": b"one"}


def test_a_zip_file_gives_way_to_a_folder_when_forced(tmp_path, snapshot) -> None:
    target = tmp_path / "pump.edgeae"
    target.write_text("a zip file")
    use(new_folder(target, force=True))
    assert snapshot(tmp_path) == {"pump.edgeae": None, "pump.edgeae/a": b"new"}


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt])
@pytest.mark.parametrize("existed", [False, True])
def test_what_goes_wrong_leaves_no_folder_behind_and_the_old_one_whole(
    tmp_path, snapshot, existed, error
) -> None:
    target = tmp_path / "pump.edgeae"
    if existed:
        use(new_folder(target))
    before = snapshot(tmp_path)
    with pytest.raises(error), new_folder(target, force=True) as folder:
        (folder / "half").write_text("half")
        raise error
    assert snapshot(tmp_path) == before


def test_a_full_disk_leaves_the_old_folder_whole(tmp_path, snapshot, full_disk) -> None:
    target = tmp_path / "pump.edgeae"
    use(new_folder(target))
    before = snapshot(tmp_path)

    def write() -> None:
        with new_folder(target, force=True) as folder:
            (folder / "a").write_text("small")
            (folder / "b").write_bytes(b"x" * 5000)

    with full_disk():
        assert told(write) == f"{target}: cannot be written (File too large); nothing was changed"
    assert snapshot(tmp_path) == before


def test_an_existing_target_is_refused_unless_forced(tmp_path, snapshot) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    before = snapshot(tmp_path)
    for name in before:
        target = tmp_path / name
        expected = f"{target}: exists already; choose another name or pass force=True"
        assert told(lambda target=target: use(new_folder(target))) == expected
        assert told(lambda target=target: check_target(target, force=False)) == expected
        check_target(target, force=True)
    assert snapshot(tmp_path) == before


# --- files ---------------------------------------------------------------------------------------


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path, snapshot) -> None:
    target = tmp_path / "errors.csv"
    for content in ("one", "two"):
        with new_file(target) as path:
            path.write_text(content)
            assert path.suffix == ".csv"  # some writers choose the format by it
            assert not target.exists() or target.read_text() == "one"
    assert snapshot(tmp_path) == {"errors.csv": b"two"}


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt])
@pytest.mark.parametrize("existed", [False, True])
def test_what_goes_wrong_leaves_no_file_behind_and_the_old_one_whole(
    tmp_path, snapshot, existed, error
) -> None:
    target = tmp_path / "errors.csv"
    if existed:
        use(new_file(target))
    before = snapshot(tmp_path)
    with pytest.raises(error), new_file(target) as path:
        path.write_text("half")
        raise error
    assert snapshot(tmp_path) == before


def test_a_new_file_may_be_read_by_whom_the_user_allows(tmp_path) -> None:
    before = os.umask(0o027)
    try:
        use(new_file(tmp_path / "errors.csv"))
        assert os.umask(0o027) == 0o027  # asking for the mask does not change it
    finally:
        os.umask(before)
    assert (tmp_path / "errors.csv").stat().st_mode & 0o777 == 0o640


def test_a_folder_is_not_replaced_by_a_file(tmp_path, snapshot) -> None:
    target = tmp_path / "errors.csv"
    use(new_folder(target))
    before = snapshot(tmp_path)
    assert told(lambda: use(new_file(target))) == f"{target}: is a folder; name a file"
    assert snapshot(tmp_path) == before


# --- both ----------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("new", [new_file, new_folder])


@BOTH
def test_a_relative_path_is_taken_from_where_the_user_is(tmp_path, monkeypatch, snapshot, new) -> None:
    monkeypatch.chdir(tmp_path)
    use(new(type(tmp_path)("here")))
    assert "here" in snapshot(tmp_path)


@BOTH
def test_a_folder_that_does_not_exist_is_named(tmp_path, snapshot, new) -> None:
    target = tmp_path / "none" / "out"
    expected = f"{target}: its folder {tmp_path}/none does not exist; create it first"
    assert told(lambda: use(new(target))) == expected
    assert snapshot(tmp_path) == {}


@BOTH
def test_a_file_in_the_place_of_the_folder_is_named(tmp_path, snapshot, new) -> None:
    (tmp_path / "file").write_text("precious")
    expected = f"{tmp_path}/file/out: its folder {tmp_path}/file does not exist; create it first"
    assert told(lambda: use(new(tmp_path / "file" / "out"))) == expected
    assert snapshot(tmp_path) == {"file": b"precious"}


@BOTH
def test_a_name_that_the_system_refuses_is_told(tmp_path, snapshot, new) -> None:
    target = tmp_path / ("x" * 300)
    expected = rf"{re.escape(str(target))}: cannot be written \(File name too long\); nothing was changed"
    assert re.fullmatch(expected, told(lambda: use(new(target))))
    assert snapshot(tmp_path) == {}


@BOTH
def test_a_name_with_blanks_and_other_scripts_will_do(tmp_path, snapshot, new) -> None:
    use(new(tmp_path / "Pumpe 2, größer"))
    assert "Pumpe 2, größer" in snapshot(tmp_path)


@BOTH
def test_of_two_writers_at_once_the_work_of_one_is_there_as_a_whole(tmp_path, snapshot, new) -> None:
    options = {"force": True} if new is new_folder else {}
    start = threading.Barrier(2)

    def write(letter: str) -> bool:
        try:
            with new(tmp_path / "out", **options) as path:
                start.wait()
                for file in [path / "a", path / "b"] if path.is_dir() else [path]:
                    file.write_text(letter * 1000)
        except OutputError:  # the other one was just renaming
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert any(pool.map(write, "xy"))
    found = snapshot(tmp_path)
    assert set(found.values()) - {None} in ({b"x" * 1000}, {b"y" * 1000})
    assert set(found) == ({"out", "out/a", "out/b"} if new is new_folder else {"out"})


# --- killed half-way -----------------------------------------------------------------------------

KILLED = """
import os, sys
from pathlib import Path
from edgeae_runtime import files

files._exchange = lambda one, other: False  # as on a system that cannot swap names
moment, target = sys.argv[1], Path(sys.argv[2])
if moment == "between":
    rename = Path.rename

    def stop(self, other):
        if self.name == "new":
            os._exit(9)
        return rename(self, other)

    Path.rename = stop
with (files.new_file(target) if moment == "file" else files.new_folder(target, force=True)) as path:
    if moment == "file":
        path.write_text("half")
        os._exit(9)
    (path / "a").write_text("half")
    if moment == "writing":
        os._exit(9)
"""
BACK = r"its replacement was killed half-way; the old one is back$"


def killed(moment, target) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, moment, str(target)], check=False, timeout=60)
    assert run.returncode == 9


def test_a_folder_takes_the_place_of_another_in_one_step(tmp_path) -> None:
    """A reader that never stops looking finds a whole one each time."""
    target, stop, missing = tmp_path / "pump.edgeae", threading.Event(), []
    use(new_folder(target))

    def look() -> None:
        while not stop.is_set():
            try:
                (target / "a").read_text()
            except OSError as error:
                missing.append(error)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(look)
        for _ in range(200):
            use(new_folder(target, force=True))
        stop.set()
    assert missing == []


@pytest.mark.parametrize("answer", [errno.EINVAL, errno.ENOSYS, None])
def test_where_names_cannot_be_swapped_a_folder_is_replaced_all_the_same(
    tmp_path, snapshot, monkeypatch, answer
) -> None:
    import ctypes

    class Library:
        """Of a file system that refuses, or (None) of a system without the call."""

        def __init__(self, *_: object, **__: object) -> None:
            if answer is not None:
                self.renameat2 = lambda *_: -1

    target = tmp_path / "pump.edgeae"
    target.write_text("a zip file")
    monkeypatch.setattr(ctypes, "CDLL", Library)
    use(new_folder(target, force=True))
    use(new_folder(target, force=True))
    assert snapshot(tmp_path) == {"pump.edgeae": None, "pump.edgeae/a": b"new"}


def test_a_bundle_that_a_kill_took_away_is_put_back_when_it_is_loaded(bundle, snapshot) -> None:
    before = snapshot(bundle.path.parent)
    killed("between", bundle.path)
    assert not bundle.path.exists()
    with pytest.warns(EdgeaeWarning, match=f"^{bundle.path}: {BACK}"):
        Bundle(bundle.path)
    assert snapshot(bundle.path.parent) == before
    Bundle(bundle.path)  # and nothing more is said


def test_or_when_it_is_to_be_replaced_once_more(bundle, tmp_path, snapshot) -> None:
    killed("between", bundle.path)
    with pytest.warns(EdgeaeWarning, match=BACK), pytest.raises(OutputError, match="exists already"):
        check_target(bundle.path, force=False, mark="manifest.json")
    killed("between", bundle.path)
    with pytest.warns(EdgeaeWarning, match=BACK):
        use(new_folder(bundle.path, force=True, mark="manifest.json"))
    assert snapshot(tmp_path) == {"pump.edgeae": None, "pump.edgeae/a": b"new"}


def test_what_was_there_last_is_put_back_where_two_were_killed(tmp_path) -> None:
    target = tmp_path / "pump.edgeae"
    for content in ("first", "second"):
        target.mkdir()
        (target / "what").write_text(content)
        killed("between", target)
    with pytest.warns(EdgeaeWarning, match=BACK):
        recover(target)
    assert (target / "what").read_text() == "second"


def test_half_of_a_first_one_is_never_taken_for_it(tmp_path, snapshot) -> None:
    target = tmp_path / "pump.edgeae"
    killed("writing", target)
    with pytest.raises(BundleError, match="no such bundle"):
        Bundle(target)
    use(new_folder(target))
    assert snapshot(tmp_path) == {"pump.edgeae": None, "pump.edgeae/a": b"new"}


def test_one_that_cannot_be_put_back_is_named(tmp_path, monkeypatch) -> None:
    target = tmp_path / "pump.edgeae"
    use(new_folder(target))
    killed("between", target)

    def refuse(self, other):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(type(target), "rename", refuse)
    expected = (
        rf"{target}: its replacement was killed half-way, and {tmp_path}/\.pump\.edgeae\..{{8}}/old cannot be"
    )
    assert re.match(
        expected + r" put back \(Read-only file system\); rename it$", told(lambda: recover(target))
    )


@pytest.mark.parametrize("name", ["pump.edgeae", "errors.csv", "no_suffix"])
def test_what_killed_ones_left_is_removed_by_the_next_to_the_same_name_and_nothing_else_is(
    tmp_path, snapshot, name
) -> None:
    target, other = tmp_path / name, tmp_path / "other.edgeae"
    own = [f".{name}.settings", f".{name}.journal", f".{name}.abcdefgh.bak", f".{name}", ".abcdefgh"]
    for file in own:
        (tmp_path / file).write_text("the user's own")
    (tmp_path / f".{name}.abcdefgh").mkdir()
    (tmp_path / f".{name}.abcdefgh" / "mine").write_text("the user's own")
    for _ in range(2):
        killed("writing", target)
    killed("writing", other)
    if "." in name:
        killed("file", target)
    before = snapshot(tmp_path)
    left = [path for path in before if path.startswith(f".{name}.") and path.endswith("/new")]
    assert len(left) == 2
    use(new_folder(target))
    found = snapshot(tmp_path)
    assert {path for path in found if not path.startswith((f".{name}", ".abcdefgh", name))} == {
        path for path in before if path.startswith(".other.edgeae.")
    }
    assert {path for path in found if path.startswith(f".{name}")} == {
        *own[:-1], f".{name}.abcdefgh", f".{name}.abcdefgh/mine"
    }  # fmt: skip


def test_what_a_killed_writer_of_a_file_left_is_removed_by_the_next(tmp_path, snapshot) -> None:
    target = tmp_path / "pump.edgeae"
    killed("file", target)
    assert len(snapshot(tmp_path)) == 1
    use(new_file(target))
    assert snapshot(tmp_path) == {"pump.edgeae": b"new"}


@BOTH
def test_what_another_one_is_at_is_left_to_it(tmp_path, snapshot, new) -> None:
    target = tmp_path / "pump.edgeae"
    options = {"force": True} if new is new_folder else {}
    with new(target, **options) as slow:
        if new is new_folder:
            (slow / "b").write_text("slow")
        else:
            slow.write_text("slow")
        use(new(target, **options))
        assert slow.exists()
    expected = {"pump.edgeae": None, "pump.edgeae/b": b"slow"}
    assert snapshot(tmp_path) == (expected if new is new_folder else {"pump.edgeae": b"slow"})


def test_a_replacement_that_is_going_on_is_waited_for(tmp_path, monkeypatch) -> None:
    target = tmp_path / "pump.edgeae"
    use(new_folder(target))
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    rename, between = type(target).rename, threading.Event()

    def slowly(self, other):
        if self.name == "new":
            between.set()
            time.sleep(0.3)
        return rename(self, other)

    monkeypatch.setattr(type(target), "rename", slowly)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: use(new_folder(target, force=True)))
        between.wait()
        assert not target.exists()
        recover(target)
        assert (target / "a").read_text() == "new"
        writing.result()


def test_nothing_is_waited_for_where_there_is_nothing(tmp_path) -> None:
    started = time.monotonic()
    recover(tmp_path / "none" / "pump.edgeae")
    (tmp_path / ".pump.edgeae.abcdefgh").mkdir()
    recover(tmp_path / "pump.edgeae")
    assert time.monotonic() - started < 1


def test_where_there_are_no_locks_nothing_is_taken_for_abandoned(tmp_path, monkeypatch) -> None:
    target = tmp_path / "pump.edgeae"
    killed("writing", target)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    use(new_folder(target))
    (left,) = [path for path in tmp_path.iterdir() if path != target]
    shutil.rmtree(left)
