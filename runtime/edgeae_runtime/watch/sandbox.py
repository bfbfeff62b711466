"""A bundle that is not known yet is verified in a process of its own.

What is wrong with a model may show only as it runs: it never ends, fills the memory, or brings its engine
down. Then a process ends that nobody needs, and not the one that watches.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ..autoencoder import Autoencoder, load
from ..bundle.archive import Bundle
from ..engines.golden import verify
from ..engines.registry import ENGINES
from ..errors import Argument, BundleError, DataError, EdgeaeError

STOP_SECONDS = 0.2
"""Seconds between two looks at whether to stop."""
GRACE_SECONDS = 5.0
"""Seconds after which a process that has not ended itself at its time limit is killed."""


_prepared: list[object] = []
"""Engines that this process has loaded before its memory was limited."""


class Verdict(msgspec.Struct):
    """Result of the process, as it writes it."""

    manifest: str = ""
    """Digest of that of a good bundle."""
    refused: str = ""
    """Reason for which the bundle is refused."""
    is_too_large: bool = False
    """Whether it takes more memory than it may."""


class Sandbox(NamedTuple):
    """Limits of time and memory for running a bundle, and how it is run."""

    engine: Any = "auto"
    precision: Any = "auto"
    seconds: int = 60
    megabytes: int = 256
    """On top of what Python and the engines take without a bundle."""

    def verify(self, path: Path, stop: threading.Event) -> str | None:
        """Verify a bundle, and run it as `open_bundle` does.

        Returns:
            Its manifest's digest, or None where it was stopped.

        Raises:
            BundleError: it is not as exported, or takes more than it may.
        """
        import subprocess  # once in a bundle's life

        words = [sys.executable, "-P", "-m", __name__, *map(str, (path, *self))]
        quiet = subprocess.DEVNULL
        until = time.monotonic() + self.seconds + GRACE_SECONDS
        with subprocess.Popen(words, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet) as process:
            while True:
                try:
                    output, _ = process.communicate(timeout=STOP_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if stop.is_set() or time.monotonic() > until:
                        process.kill()
        if stop.is_set():
            return None
        if process.returncode == 0:
            found = msgspec.json.decode(output.splitlines()[-1], type=Verdict)
            if found.manifest:
                return found.manifest
            if not found.is_too_large:
                raise BundleError(found.refused)
            why, limit = f"takes more than {self.megabytes} MB of memory", "swap_memory"
        else:
            why, limit = self._reason(process.returncode, until)
        raise BundleError(f"{path}: {why}; if it is a good one, see ", Argument(limit))

    def _reason(self, status: int, until: float) -> tuple[str, str]:
        """Return why the process ended, and the argument that may have been the reason."""
        import signal

        if status == -signal.SIGALRM or time.monotonic() > until:
            return f"could not be verified within {self.seconds} s", "swap_seconds"
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        want = f"maybe for want of more than {self.megabytes} MB of memory"
        return f"the process that verified it ended with {how}, {want}", "swap_memory"


def open_bundle(path: Path, engine: Any, precision: Any) -> Autoencoder:
    """Open a bundle and run it once: what it is made of is in memory then, whatever becomes of the files."""
    autoencoder = load(path, engine=engine, precision=precision)
    with suppress(DataError):  # zeros may be far from the training data
        autoencoder.detect(np.zeros(autoencoder.manifest.input.shape, np.float32))
    return autoencoder


def _main(path: str, engine: str, precision: str, seconds: str, megabytes: str) -> None:
    """Be the process; write a `Verdict`."""
    _limit(int(seconds), int(megabytes) * 1_000_000)
    verdict = Verdict()
    try:
        bundle = Bundle(Path(path))
        for check in verify(bundle, engines=[engine]):
            if check.status == "failed" or (check.status == "refused" and check.engine == engine):
                raise BundleError(f"{path}: {check.artifact}: {check.detail}")
        verdict.manifest = open_bundle(Path(path), engine, precision).digest
        if verdict.manifest != bundle.digest:
            raise BundleError(f"{path}: changed while it was verified")
    except MemoryError:
        verdict = Verdict(is_too_large=True)
    except EdgeaeError as error:
        verdict = Verdict(refused=str(error))
    except Exception as error:  # whatever a broken file does
        verdict = Verdict(refused=f"{path}: {type(error).__name__}: {error}")
    os.write(1, b"\n" + msgspec.json.encode(verdict) + b"\n")
    os._exit(0)  # nothing to tidy up, and a broken engine might not live through it


def _limit(seconds: int, size: int) -> None:
    """Let this process end by itself, first when memory is short, and hinder nobody."""
    import resource
    import signal

    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process wherever it is
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.alarm(seconds)
    with suppress(OSError):  # where a sandbox of systemd's forbids it
        os.nice(10)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    for record in ENGINES:
        with suppress(ImportError):
            _prepared.append(record.load().prepare())
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    own = pages * resource.getpagesize()
    for kind, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, own + size)):
        with suppress(OSError, ValueError):  # likewise, or there is a lower limit
            resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    _main(*sys.argv[1:])
