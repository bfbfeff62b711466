import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgeae_runtime import OutputError
from edgeae_runtime._files import check_target, new_file, new_folder


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
        expected = f"{target}: exists already; choose another name or pass --force"
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
