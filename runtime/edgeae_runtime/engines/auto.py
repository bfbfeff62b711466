"""The choice of engine and precision by ``auto``: the fastest pair that is right on this device.

The pairs that a bundle and the installed engines offer are held against the golden outputs and timed by
turns; the choice is remembered in the user's cache folder.
"""

import hashlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..bundle.archive import Bundle
from ..bundle.manifest import Artifact
from ..errors import BundleError, EdgeaeWarning, FidelityError, OutputError
from ..names import PRECISIONS, Precision, PrecisionName, Role
from .base import Engine, run_batches
from .golden import check_artifact, golden_input, load_golden
from .registry import ENGINES, EngineName, engines_here, find_engine

SWITCH = "EDGEAE_TUNE"
"""The environment variable that, when ``off``, has ``auto`` take a fixed order instead of measuring."""

SECONDS = 0.06
"""Seconds of timing, where the calls are quick."""
TIE_FACTOR = 1.1
"""Factor of the best time within which times count as equal: the more precise pair is taken."""

_Artifacts: TypeAlias = dict[tuple[str, Precision], Artifact]


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """An engine and a precision, and what was found of them."""

    engine: str
    precision: Precision
    microseconds: float | None = None
    """Median time of a call; None where it was refused."""
    error_median: float
    """Fidelity against the float model: see `Fidelity`."""
    refused: str | None = None
    """Reason for which it cannot be chosen."""
    is_wrong: bool = False
    """Whether that is because its outputs are not the golden ones."""


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements on this device."""

    key: dict[str, str]
    """All that the times depend on; another value means another measurement."""
    pairs: tuple[Pair, ...]

    def best(self, among: Collection[tuple[str, Precision]]) -> Pair | None:
        """Return the fastest of some pairs, or the most precise one where several are close."""
        times = {p: p.microseconds for p in self.pairs if p.microseconds and (p.engine, p.precision) in among}
        close = [pair for pair in times if times[pair] <= TIE_FACTOR * min(times.values())]
        return min(close, key=lambda p: (PRECISIONS.index(p.precision), times[p]), default=None)

    def about_int8(self) -> str | None:
        """Return in one line that int8 is refused or slower than float32 here; None where it is neither."""
        from ..machine import processor

        times = {
            precision: [p.microseconds for p in self.pairs if p.precision == precision and p.microseconds]
            for precision in ("int8", "float32")
        }
        here = f"on this processor ({processor.kind() or 'of unknown kind'})"
        wrong = [p for p in self.pairs if p.precision == "int8" and p.is_wrong]
        if wrong:
            *others, last = (pair.engine for pair in wrong)
            engines = f"{', '.join(others)} and {last}" if others else last
            return f"int8 with {engines} is refused {here}: it {wrong[0].refused}"
        if all(times.values()) and min(times["int8"]) > TIE_FACTOR * min(times["float32"]):
            fastest = [f"{min(times[precision]):,.1f} µs" for precision in ("int8", "float32")]
            return f"int8 is slower than float32 {here}: {fastest[0]} and {fastest[1]} a call"
        return None


def choose(
    bundle: Bundle, *, engine: EngineName, precision: PrecisionName, threads: int, arena: bool, rows: int
) -> tuple[str, Precision]:
    """Return the pair to use; arguments as for `load`.

    Raises:
        BundleError: the bundle has nothing of that engine and precision.
        FidelityError: it was measured, and nothing that it has is right here.
    """
    held = _held(bundle, engine, precision)
    here = held
    if len({name for name, _ in held}) > 1:  # else its trouble is reported when it is used
        here = {pair: held[pair] for pair in held if find_engine(pair[0]).is_installed()} or held
    first = next(iter(here))
    if len(here) < 2 or os.environ.get(SWITCH, "").lower() == "off":
        return first
    key = _key(bundle, threads, arena, rows)
    known, caveat = _read(_cache_file(key), key), None
    before = {(pair.engine, pair.precision) for pair in known.pairs} if known else set()
    if known is None or not before.issuperset(here):
        # those that were asked for before too, so that times which are compared are of one run
        again = {pair: held for pair, held in _held(bundle, "auto", "auto").items() if pair in before}
        try:
            known = _measure(bundle, {**again, **here}, key, threads, arena, rows)
            caveat = known.about_int8()
        except BundleError:  # of the golden file, without which all else may work
            return first
    found = known.best(here)
    if found is not None:
        if caveat:
            warnings.warn(f"{bundle.path}: {caveat}", EdgeaeWarning, stacklevel=3)
        return found.engine, found.precision
    asked = [pair for pair in known.pairs if (pair.engine, pair.precision) in here]
    if all(pair.is_wrong for pair in asked):
        raise FidelityError(
            f"{bundle.path}: no model of it gives its golden outputs on this machine ({asked[0].refused}); "
            "see `edgeae verify`, or name engine and precision to use one all the same"
        )
    return first  # whose trouble is reported when it is used


def tune(bundle: Bundle, *, threads: int = 1, arena: bool = True, rows: int = 1) -> Tuning:
    """Measure all pairs anew, and have ``auto`` use what comes out; arguments as for `load`.

    Raises:
        BundleError: the bundle has nothing to run, or its golden file is missing or damaged.
    """
    held = _held(bundle, "auto", "auto")
    return _measure(bundle, held, _key(bundle, threads, arena, rows), threads, arena, rows)


def _held(bundle: Bundle, engine: EngineName, precision: PrecisionName) -> _Artifacts:
    """Return what each pair is measured by, in the fixed order of preference.

    That is the scorer; where the bundle has none of what is asked for, its encoder, or else its decoder.
    """
    engines = engines_here() if engine == "auto" else [r for r in ENGINES if r.name == engine]
    preferred: list[Precision] = ["int8", *(kind for kind in PRECISIONS if kind != "int8")]
    precisions = preferred if precision == "auto" else [precision]
    roles: tuple[Role, ...] = ("scorer", "encoder", "decoder")
    for role in roles:
        found: _Artifacts = {
            (record.name, kind): artifact
            for record in engines
            for kind in precisions
            if (artifact := record.artifact(bundle.manifest, role, kind)) is not None
        }
        if found:
            return found
    raise BundleError(
        f"{bundle.path}: has nothing of precision {precision} for engine {engine}; "
        f"it holds {', '.join(a.path for a in bundle.manifest.artifacts)}"
    )


def _key(bundle: Bundle, threads: int, arena: bool, rows: int) -> dict[str, str]:
    """Return all that a measurement depends on."""
    from ..machine import processor  # not needed where nothing is left to auto

    return {
        "manifest": bundle.digest,
        "engines": " ".join(sorted(name for record in ENGINES for name in _versions(record.package))),
        "machine": f"{os.uname().machine} {processor.make()}",
        "asked": f"threads={threads} rows={rows} arena={arena}",
    }


def _versions(module: str) -> list[str]:
    """Return the names of the folders in which pip keeps a package's version.

    `importlib.metadata` would say the same, and cost a cold start 10 ms.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin:
        return []
    try:
        names = os.listdir(os.path.dirname(os.path.dirname(spec.origin)))
    except OSError:
        return [spec.origin]
    return [name for name in names if name.startswith(module) and name.endswith((".dist-info", ".egg-info"))]


def _measure(
    bundle: Bundle, artifacts: _Artifacts, key: dict[str, str], threads: int, arena: bool, rows: int
) -> Tuning:
    """Verify and time pairs; remember those that are right: the others may be repaired."""
    from ..machine.timing import interleave  # not needed for a choice that is known, nor is this

    golden = load_golden(bundle)
    found: dict[tuple[str, Precision], Pair] = {}
    calls: dict[tuple[str, Precision], Callable[[], object]] = {}
    for (name, precision), artifact in artifacts.items():
        check, engine = check_artifact(bundle, artifact, name, golden, threads, arena=arena)
        if engine is not None:
            calls[name, precision] = _call(engine, artifact, golden_input(artifact, golden), rows)
        found[name, precision] = Pair(
            engine=name,
            precision=precision,
            error_median=artifact.fidelity.error_median,
            refused=None if engine is not None else check.detail,
            is_wrong=engine is None and check.difference is not None,
        )
    for pair, times in interleave(calls, seconds=SECONDS).items():
        found[pair] = msgspec.structs.replace(found[pair], microseconds=1e6 * float(np.median(times)))
    tuning = Tuning(key=key, pairs=tuple(found.values()))
    if calls:
        right = tuple(pair for pair in tuning.pairs if pair.refused is None)
        _write(_cache_file(key), msgspec.structs.replace(tuning, pairs=right))
    return tuning


def _call(engine: Engine, artifact: Artifact, golden: NDArray[Any], rows: int) -> Callable[[], object]:
    """Return a call of the engine on some golden rows, in the way that `Detector.detect` takes."""
    if rows == 1 and artifact.role == "scorer":
        run, row = engine.one_row(engine.shape), golden[0].reshape(engine.shape)
        return lambda: run(row)
    batch = np.resize(golden, (rows, *engine.shape))
    return lambda: run_batches(engine, batch, artifact.precision, artifact.format)


def _cache_file(key: dict[str, str]) -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.sha256(msgspec.json.encode(key)).hexdigest()[:32]
    return os.path.join(base, "edgeae", "tune", f"{name}.json")


def _read(path: str, key: dict[str, str]) -> Tuning | None:
    """Return what is remembered; None where there is nothing, or nothing that can be used."""
    try:
        with open(path, "rb") as file:
            found = msgspec.json.decode(file.read(), type=Tuning)
    except (OSError, ValueError, RecursionError):
        return None
    return found if found.key == key else None


def _write(path: str, tuning: Tuning) -> None:
    """Remember; where that is not possible, it is measured again next time."""
    from pathlib import Path

    from ..files import new_file

    with suppress(OSError, OutputError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with new_file(Path(path)) as work:
            work.write_bytes(msgspec.json.encode(tuning))
