"""What an environment holds: the files of a distribution and of all that it depends on."""

from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

RUNTIME = Path(__file__).parents[1] / "runtime" / "edgeae_runtime"


def measure() -> dict[str, Any]:
    """Return bytes and distributions of each way to score."""
    ways = {
        "edgeae-runtime": "edgeae-runtime",
        "edgeae-runtime[litert]": "edgeae-runtime[litert]",
        "edgeae-runtime[openvino]": "edgeae-runtime[openvino]",
        "onnxruntime alone": "onnxruntime",
        "openvino alone": "openvino",
        "tensorflow": "tensorflow",
    }
    return {title: _closure(requirement) for title, requirement in ways.items()}


def _closure(requirement: str) -> dict[str, Any]:
    waiting, found = [Requirement(requirement)], dict[str, int]()
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        installed = distribution(wanted.name)
        found[key[0]] = _bytes(installed)
        for line in installed.requires or []:
            needed = Requirement(line)
            extras = wanted.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return {"bytes": sum(found.values()), "distributions": len(found)}


def _bytes(installed: Distribution) -> int:
    """Return the size of a distribution's files, without compiled ones, which Python makes as needed."""
    if canonicalize_name(installed.metadata["Name"]) == "edgeae-runtime":  # may be an editable install
        return sum(
            path.stat().st_size for path in RUNTIME.rglob("*") if path.suffix in (".py", ".json", ".typed")
        )
    paths = [Path(str(f.locate())) for f in installed.files or [] if f.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file())
