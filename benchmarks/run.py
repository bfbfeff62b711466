"""Measure everything and draw the page: ``python benchmarks/run.py [--quick] [--only SECTION]…``.

Each section runs in a process of its own and leaves its JSON in ``.cache/bench``; results.json, and from it
README.md with its pictures, are made of all of them. ``--quick`` takes fewer models and rounds and leaves
everything in ``.cache/bench-quick``.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgeae_runtime.machine.processor import kind

HERE = Path(__file__).parent
ROOT = HERE.parent
PACKAGES = (
    "edgeae",
    "tensorflow",
    "keras",
    "onnxruntime",
    "ai-edge-litert",
    "openvino",
    "scikit-learn",
    "numpy",
)
COLD_ROUNDS = 10


def measure(section: str, cache: Path, *, quick: bool) -> Any:
    """Run one section in this process."""
    kind, _, name = section.partition(":")
    if kind == "model":
        import models

        return models.make(name, cache, quick=quick)
    if kind == "latency":
        import latency

        return latency.measure(name, cache, quick=quick)
    if kind == "cold":
        import cold

        return cold.measure(cache / name, rounds=1 if quick else COLD_ROUNDS)
    if kind == "installed":
        import installed

        return installed.measure()
    if kind == "stream":
        import streaming

        return streaming.measure(cache, quick=quick)
    import growth

    return growth.measure(cache, quick=quick)


def sections(*, quick: bool) -> list[str]:
    """Return the sections in order; the later ones need the models of the first."""
    import models
    import targets

    names = list(targets.FLAT) if quick else list(models.SPECS)
    streams = [] if quick else ["stream"]
    return [
        *(f"{kind}:{name}" for name in names for kind in ("model", "latency")),
        "cold:dense",
        "installed",
        *streams,
        "growth",
    ]


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    return {
        "processor": next(named, platform.machine()),
        "kind": kind(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "L2": _cache_size(2),
        "L3": _cache_size(3),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _cache_size(level: int) -> str:
    """Return the size of a core's cache, as Linux writes it."""
    folder = Path(f"/sys/devices/system/cpu/cpu0/cache/index{level}")
    return (folder / "size").read_text().strip() if folder.exists() else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer models and rounds, into .cache/bench-quick"
    )
    parser.add_argument(
        "--only", action="append", metavar="SECTION", help="measure this again, keep the rest"
    )
    parser.add_argument("--section", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cache = ROOT / ".cache" / ("bench-quick" if options.quick else "bench")
    cache.mkdir(parents=True, exist_ok=True)
    if options.section:
        found = measure(options.section, cache, quick=options.quick)
        _kept(cache, options.section).write_text(json.dumps(found))
        return
    wanted = sections(quick=options.quick)
    for section in wanted:
        if options.only is None or section in options.only:
            _start(section, cache, quick=options.quick)
    results: dict[str, Any] = {"machine": machine()}
    for section in wanted:
        kind, _, name = section.partition(":")
        found = json.loads(_kept(cache, section).read_text())
        if name:
            results.setdefault(kind, {})[name] = found
        else:
            results[kind] = found
    target = cache if options.quick else HERE
    (target / "results.json").write_text(json.dumps(_rounded(results), indent=1) + "\n")
    command = [sys.executable, str(HERE / "page.py"), str(target)]
    subprocess.run(command if options.quick else [*command, "--docs"], check=True)


def _kept(cache: Path, section: str) -> Path:
    return cache / f"{section.replace(':', '-')}.json"


def _start(section: str, cache: Path, *, quick: bool) -> None:
    """Run a section in a fresh process, its chatter in a log beside its JSON."""
    print(f"{section} … ", end="", flush=True)
    start = time.perf_counter()
    command = [sys.executable, str(HERE / "run.py"), "--section", section, *(["--quick"] if quick else [])]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    log = _kept(cache, section).with_suffix(".log")
    with log.open("w") as out:
        done = subprocess.run(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    if done.returncode:
        print("\n".join(log.read_text().splitlines()[-15:]))
        sys.exit(f"{section} failed; all that it said is in {log}")
    print(f"{time.perf_counter() - start:.0f} s")


def _rounded(value: Any) -> Any:
    """Return the results with four digits a number, which is more than any of them is good for."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
