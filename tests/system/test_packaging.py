import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import edgeae_runtime

HOUSE = {"edgeae": "edgeae", "edgeae_export": "edgeae", "edgeae_runtime": "edgeae-runtime"}
ROOT = Path(__file__).parents[2]
PYPROJECTS = {
    name: tomllib.loads((ROOT / path).read_text(encoding="utf-8"))
    for name, path in {"edgeae": "pyproject.toml", "edgeae-runtime": "runtime/pyproject.toml"}.items()
}
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
PINS = [line for line in CONSTRAINTS.splitlines() if line[:1] not in ("", "#")]


def normal(name):
    """The one spelling that PEP 503 gives to each distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named_in(pyproject):
    """The distributions that a pyproject asks for to build, to run and for its extras."""
    project = pyproject["project"]
    wanted = [*pyproject["build-system"]["requires"], *project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    return {normal(re.match(r"[\w.-]+", requirement).group()) for requirement in wanted}


def test_both_distributions_and_the_module_have_one_version():
    versions = {name: pyproject["project"]["version"] for name, pyproject in PYPROJECTS.items()}
    assert versions == dict.fromkeys(versions, edgeae_runtime.__version__)


def test_the_trainer_asks_for_the_runtime_of_its_own_version():
    project = PYPROJECTS["edgeae"]["project"]
    assert f"edgeae-runtime[litert]=={project['version']}" in project["dependencies"]


@pytest.mark.parametrize("name", PYPROJECTS)
def test_every_distribution_that_is_named_has_a_pin(name):
    pinned = {normal(pin.partition("==")[0]) for pin in PINS}
    assert named_in(PYPROJECTS[name]) - pinned - PYPROJECTS.keys() == set()


def imported_by(*folders):
    """The distributions that the modules below these folders import, the standard library's left out."""
    names = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.partition(".")[0])
    known = {name: found[0] for name, found in packages_distributions().items()} | HOUSE
    return {normal(known.get(name, name)) for name in names - sys.stdlib_module_names}


@pytest.mark.parametrize(
    ("name", "folders"),
    [("edgeae", ["edgeae", "export/edgeae_export"]), ("edgeae-runtime", ["runtime/edgeae_runtime"])],
)
def test_what_is_imported_is_asked_for_by_name(name, folders):
    litert = {"ai-edge-litert"}  # the trainer asks for it as edgeae-runtime[litert]
    assert imported_by(*folders) - named_in(PYPROJECTS[name]) - litert - {name} == set()


def test_a_constraint_is_a_name_and_a_version_and_never_an_address():
    assert PINS and "://" not in CONSTRAINTS
    assert [pin for pin in PINS if not re.fullmatch(r"[\w.-]+==[\w.+!]+( *; *[^/@]+)?", pin)] == []
