"""Where the state of an unfinished training is kept: ``NAME.run.partial``, beside the run."""

from pathlib import Path

from edgeae_runtime.errors import Argument, EdgeaeError


class ResumeError(EdgeaeError):
    """A checkpoint is in the way, damaged, or of another training."""


def checkpoint_path(run: Path) -> Path:
    """Return where the checkpoint of a run is kept."""
    return run.with_name(f"{run.name}.partial")


def check_checkpoint(path: Path, *, resume: bool, force: bool) -> None:
    """Refuse to train over the checkpoint of an unfinished training; delete it where that is forced.

    Raises:
        ResumeError: there is one, and neither ``resume`` nor ``force`` is set.
    """
    if resume or not path.exists():
        return
    if not force:
        raise ResumeError(
            f"{path}: holds an unfinished training; continue it with ",
            Argument("resume", True),
            ", or start again with ",
            Argument("force", True),
        )
    discard(path)


def discard(path: Path) -> None:
    """Delete a checkpoint, and what a kill in the middle of writing it left."""
    path.unlink(missing_ok=True)
    for stray in path.absolute().parent.glob(f".{path.name}.*"):
        stray.unlink(missing_ok=True)
