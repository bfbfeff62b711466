"""Writing without leaving halves: a file or folder appears whole, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ._errors import OutputError


def check_target(path: Path, *, force: bool, mark: str | None = None) -> None:
    """Refuse a target that exists, unless forced, or whose parent does not exist.

    A folder without the file ``mark`` is none of ours, so that not even force replaces it.

    Raises:
        OutputError: which of these it is.
    """
    # the functions of os.path, unlike Path's methods, do not raise where the name itself is refused
    if os.path.lexists(path) and not force:
        raise OutputError(f"{path}: exists already; choose another name or pass --force")
    if mark is not None and os.path.isdir(path) and os.listdir(path) and not os.path.lexists(path / mark):
        raise OutputError(f"{path}: is a folder without {mark}, so not one to replace; choose another name")
    if not os.path.isdir(path.absolute().parent):
        raise OutputError(f"{path}: its folder {path.parent} does not exist; create it first")


def check_file_target(path: Path) -> None:
    check_target(path, force=True)
    if os.path.isdir(path):
        raise OutputError(f"{path}: is a folder; name a file")


@contextmanager
def new_folder(path: Path, *, force: bool = False, mark: str | None = None) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` that takes its name when the block ends well.

    Raises:
        OutputError: see `check_target`; also where the file system refuses a write (disk full).
    """
    check_target(path, force=force, mark=mark)
    target = path.absolute()
    with named_disk_errors(path):
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    fresh, old = work / "new", work / "old"
    try:
        with named_disk_errors(path):
            fresh.mkdir()
            yield fresh
            for file in sorted(fresh.rglob("*")):
                _flush(file)
            _flush(fresh)
            if os.path.lexists(target):
                target.rename(old)
            try:
                fresh.rename(target)
            except OSError:
                if os.path.lexists(old):
                    old.rename(target)
                raise
            _flush(target.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which replaces ``path`` when the block ends well; errors as `new_folder`."""
    check_file_target(path)
    target = path.absolute()
    with named_disk_errors(path):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        work = Path(name)
        try:
            os.chmod(work, 0o666 & ~_umask())  # mkstemp makes it private; a result is not a secret
            yield work
            _flush(work)
            work.replace(target)
        finally:
            work.unlink(missing_ok=True)


@contextmanager
def named_disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); nothing was changed"
        ) from error


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
