"""How the packages are laid out: what CONTRIBUTING.md says of the house, read from the imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "edgeae": ROOT / "edgeae",
    "edgeae_export": ROOT / "export" / "edgeae_export",
    "edgeae_runtime": ROOT / "runtime" / "edgeae_runtime",
}
MOST_MODULES = 14
"""In a folder, besides its ``__init__``."""
MOST_LINES = 300
REASON = f"Longer than {MOST_LINES} lines: "
"""Begins the last paragraph of the docstring of a module that has more."""


def modules_in(folders: dict[str, Path]) -> dict[str, Path]:
    """Return the modules of packages, dotted name to file."""
    found = {}
    for name, folder in folders.items():
        for file in sorted(folder.rglob("*.py")):
            parts = [name, *file.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(name: str, modules: dict[str, Path]) -> set[str]:
    """Return which of the modules one imports, in whatever function and for whatever purpose."""
    package = name if modules[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(modules[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in modules else base)
    return {other for other in found if other in modules and other != name}


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Return the names along one circle of a graph; none where there is none."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if circle := walk(other, [*way, name]):
                return circle
        done.add(name)
        return []

    return next((circle for name in sorted(graph) if (circle := walk(name, []))), [])


def rooms_of(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return what rooms and modules at the top of a package import of each other."""
    rooms: dict[str, set[str]] = {}
    for name, others in graph.items():
        room = ".".join(name.split(".")[:2])
        rooms.setdefault(room, set()).update(".".join(other.split(".")[:2]) for other in others)
    return {room: others - {room} for room, others in rooms.items()}


def reaching_in(graph: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    """Yield who imports a module in a room of another distribution."""
    for name, others in graph.items():
        for other in others:
            if other.split(".")[0] != name.split(".")[0] and other.count(".") > 1:
                yield name, other


def too_long(file: Path) -> bool:
    """Tell whether a file has too many lines and says no reason."""
    text = file.read_text()
    paragraphs = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")
    return text.count("\n") > MOST_LINES and not paragraphs[-1].startswith(REASON)


MODULES = modules_in(FOLDERS)
GRAPH = {name: imports_of(name, MODULES) for name in MODULES}


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle_in(GRAPH) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert circle_in(rooms_of(GRAPH)) == []


def test_a_package_reaches_into_no_room_of_another() -> None:
    assert sorted(reaching_in(GRAPH)) == []


def test_no_module_hides_behind_an_underscore() -> None:
    assert [name for name in MODULES if name.rpartition(".")[2].startswith("_")] == []


@pytest.mark.parametrize("folder", [*FOLDERS.values(), ROOT / "tests"], ids=lambda folder: folder.name)
def test_no_folder_holds_too_many_modules(folder: Path) -> None:
    counts = {
        inner: len([*inner.glob("*.py")]) - (inner / "__init__.py").exists() for inner in folder.rglob("*/")
    }
    counts[folder] = len([*folder.glob("*.py")])
    assert {str(inner): n for inner, n in counts.items() if n > MOST_MODULES} == {}


def test_no_file_is_long_without_a_reason() -> None:
    assert [str(file) for file in MODULES.values() if too_long(file)] == []


def test_what_a_room_hands_on_is_there_and_is_no_module_of_it() -> None:
    for name, file in MODULES.items():
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__getattr__":
                homes = ast.literal_eval(node.value.args[1])
                for handed, home in homes.items():
                    tree = ast.parse(MODULES[f"{name}.{home}"].read_text())
                    words = {word.id for word in ast.walk(tree) if isinstance(word, ast.Name)}
                    words |= {
                        word.name for word in tree.body if isinstance(word, ast.FunctionDef | ast.ClassDef)
                    }
                    assert handed in words, f"{name} hands on {handed}, which {home} lacks"
                    assert f"{name}.{handed}" not in MODULES


@pytest.fixture
def small(tmp_path: Path):
    """A function that writes a package of some modules and reads its imports."""

    def write(**texts: str) -> dict[str, set[str]]:
        for name, text in texts.items():
            path = tmp_path / "p" / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            (path.parent / "__init__.py").touch()
        modules = modules_in({"p": tmp_path / "p"})
        return {name: imports_of(name, modules) for name in modules}

    return write


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ("from .b import x", "from .a import x"),
        ("from . import b", "import p.a"),
        (
            "def f():\n    from .b import x",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import a",
        ),
    ],
)
def test_a_circle_is_seen_late_or_for_types_only(small, there: str, back: str) -> None:
    assert circle_in(small(a=there, b=back)) == ["p.a", "p.b", "p.a"]
    assert circle_in(small(a=there, b="import os")) == []


def test_a_circle_of_rooms_is_seen_where_no_modules_make_one(small) -> None:
    graph = small(one__a="from ..two.b import x", two__b="", two__c="from ..one.d import x", one__d="")
    assert circle_in(graph) == []
    assert circle_in(rooms_of(graph)) == ["p.one", "p.two", "p.one"]


def test_a_long_file_wants_a_reason_at_the_end_of_its_docstring(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    for head, expected in (('"""Text."""', True), (f'"""Text.\n\n{REASON}one class.\n"""', False)):
        file.write_text(head + "\n" * (MOST_LINES + 1))
        assert too_long(file) is expected
