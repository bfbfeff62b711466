"""Writing without leaving halves: a file or folder appears whole, or not at all.

Work goes on beside the target ``NAME``: in a folder ``.NAME.XXXXXXXX`` with the new one in ``new``, or in a
file ``.NAME.XXXXXXXX.SUFFIX``. Whoever is at it holds a lock on it, which ends with the process however that
ends, so that what a killed one left can be distinguished from what is in use.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import Argument, EdgeaeWarning, OutputError

WAIT_SECONDS = 2.0
"""Seconds to wait for a replacement in two steps that is just between them."""
_RENAME_EXCHANGE, _AT_FDCWD = 2, -100


def check_target(path: Path, *, force: bool, mark: str | None = None) -> None:
    """Refuse a target that exists, unless forced, or whose parent does not exist.

    A folder without the file ``mark`` is none of ours, so that not even force replaces it. With a mark, what
    a killed replacement took away is put back first.

    Raises:
        OutputError: which of these it is; or see `recover`.
    """
    if mark is not None:
        recover(path)
    # the functions of os.path, unlike Path's methods, do not raise where the name itself is refused
    if os.path.lexists(path) and not force:
        raise OutputError(f"{path}: exists already; choose another name or pass ", Argument("force", True))
    if mark is not None and os.path.isdir(path) and os.listdir(path) and not os.path.lexists(path / mark):
        raise OutputError(f"{path}: is a folder without {mark}, so not one to replace; choose another name")
    if not os.path.isdir(path.absolute().parent):
        raise OutputError(f"{path}: its folder {path.parent} does not exist; create it first")


def check_file_target(path: Path) -> None:
    """Refuse a path where no file can be written; see `check_target`."""
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
        work, lock = _locked(lambda: tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with named_disk_errors(path):
            fresh = work / "new"
            fresh.mkdir()
            yield fresh
            for file in sorted(fresh.rglob("*")):
                _flush(file)
            _flush(fresh)
            _replace(fresh, target, work / "old")
            _flush(target.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(lock)
    _clean(target)


def recover(path: Path) -> None:
    """Where nothing is at ``path`` because its replacement was killed half-way, put the old one back.

    That can only be where the system cannot swap two names in one step; see `_replace`. Of a replacement that
    is going on the end is waited for.

    Raises:
        OutputError: it cannot be put back.
        (warning) EdgeaeWarning: it was.
    """
    target = path.absolute()
    until = time.monotonic() + WAIT_SECONDS
    while not os.path.lexists(target):
        left = [work for work in _left(target) if os.path.lexists(work / "old")]
        for work in sorted(left, key=lambda work: work.stat().st_mtime_ns, reverse=True):
            with _abandoned(work) as is_abandoned:
                if is_abandoned and not os.path.lexists(target):
                    try:
                        (work / "old").rename(target)
                    except OSError as error:
                        raise OutputError(
                            f"{path}: its replacement was killed half-way, and {work}/old cannot be put back "
                            f"({error.strerror}); rename it"
                        ) from error
                    warnings.warn(
                        f"{path}: its replacement was killed half-way; the old one is back",
                        EdgeaeWarning,
                        stacklevel=2,
                    )
                    shutil.rmtree(work, ignore_errors=True)
                    return
        if not left or time.monotonic() > until:
            return
        time.sleep(0.01)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which replaces ``path`` when the block ends well; errors as `new_folder`."""
    check_file_target(path)
    target = path.absolute()
    with named_disk_errors(path):

        def make() -> str:
            handle, name = tempfile.mkstemp(
                prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent
            )
            os.close(handle)
            return name

        work, lock = _locked(make)
        try:
            os.chmod(work, 0o666 & ~_umask())  # mkstemp makes it private; a result is not a secret
            yield work
            _flush(work)
            work.replace(target)
        finally:
            work.unlink(missing_ok=True)
            os.close(lock)
    _clean(target)


@contextmanager
def named_disk_errors(path: Path) -> Iterator[None]:
    """Make an OutputError, which names the path, of what the disk refuses."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); nothing was changed"
        ) from error


def _replace(fresh: Path, target: Path, old: Path) -> None:
    """Put ``fresh`` in the target's place, and the target elsewhere.

    In one step where the system can. In two otherwise, between which a kill leaves no target but ``old``.
    """
    if not os.path.lexists(target):
        fresh.rename(target)
    elif not _exchange(fresh, target):
        target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            old.rename(target)
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step, as Linux does on most local file systems; False where it cannot be."""
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # another system, or an old C library
        return False
    names = os.fsencode(one), os.fsencode(other)
    swapped: int = rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    return swapped == 0


def _locked(make: Callable[[], str]) -> tuple[Path, int]:
    """Return what ``make`` made, and the handle that locks it."""
    while True:
        path = Path(make())
        with suppress(FileNotFoundError):  # a cleaner took it for an abandoned one
            handle = os.open(path, os.O_RDONLY)
            try:
                with suppress(OSError):  # no locks here: then nobody takes anything for abandoned
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.stat(path), os.fstat(handle)):
                    return path, handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)


@contextmanager
def _abandoned(work: Path) -> Iterator[bool]:
    """Return whether nobody is at it, and keep others from it meanwhile."""
    try:
        handle = os.open(work, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _left(target: Path) -> list[Path]:
    """Return what replacements of the target, killed ones or others, have beside it."""
    name = re.escape(f".{target.name}.") + "[a-z0-9_]{8}"  # as tempfile makes them
    suffix = re.escape(target.suffix)
    found = []
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if re.fullmatch(name, entry.name) and {*os.listdir(entry)} <= {"new", "old"}:
                    found.append(Path(entry.path))
            elif suffix and re.fullmatch(name + suffix, entry.name):
                found.append(Path(entry.path))
    return found


def _clean(target: Path) -> None:
    """Remove what killed replacements left."""
    for work in _left(target):
        with _abandoned(work) as is_abandoned:
            if is_abandoned:
                shutil.rmtree(work, ignore_errors=True)
                with suppress(OSError):
                    work.unlink(missing_ok=True)


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
