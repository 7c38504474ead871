"""The house: imports go down only, in the order that CONTRIBUTING draws, without a circle; no file is too long."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import cinema_lightning

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "src" / "cinema_lightning").rglob("*.py")
}
LINES = 400


def imports(module: str) -> set[str]:
    """Modules of the package that a module imports anywhere in it, also inside functions and for types only."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else node.module for name in names}
    return {name for name in found if name.partition(".")[0] == "cinema_lightning" and name != module}


def room(module: str) -> str:
    """The package or the module right below the top one."""
    return module.removeprefix("cinema_lightning").lstrip(".").partition(".")[0]


GRAPH = {module: imports(module) for module in FILES}
ROOMS: dict[str, dict[str, str]] = {}
for module, found in GRAPH.items():
    for other in found:
        if room(other) != room(module):
            ROOMS.setdefault(room(module), {}).setdefault(room(other), f"{module} imports {other}")


def floors() -> dict[str, int]:
    """Room -> floor, the ground floor 0, as CONTRIBUTING draws them."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawing = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert drawing, "CONTRIBUTING.md has no drawing of the rooms"
    lines = [line.split(" : ")[0].split() for line in drawing[1].strip().splitlines()]
    return {name: floor for floor, names in enumerate(reversed(lines)) for name in names}


def test_what_is_imported_is_there():
    gone = [f"{module} imports {name}" for module, found in GRAPH.items() for name in found if name not in FILES]
    assert not gone, "\n".join(gone)


@pytest.mark.parametrize("graph", [GRAPH, ROOMS], ids=["modules", "rooms"])
def test_nothing_imports_in_a_circle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" is imported by ".join(error.args[1]))


def test_imports_go_down_only():
    floor = floors()
    homeless = {room(module) for module in FILES} - floor.keys() - {"", "__main__"}
    assert not homeless, f"CONTRIBUTING.md draws no room for {', '.join(sorted(homeless))}"
    assert not floor.keys() - {room(module) for module in FILES}, "CONTRIBUTING.md draws rooms that are not there"
    up = [
        how
        for name, others in ROOMS.items()
        for other, how in others.items()
        if other and name != "__main__" and floor[other] > floor[name]
    ]
    assert not up, "\n".join(up)


def test_no_file_is_too_long():
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert not {name: n for name, n in lines.items() if n > LINES}


def test_what_the_package_offers_has_its_types():
    stub = ast.parse((ROOT / "src" / "cinema_lightning" / "__init__.pyi").read_text(encoding="utf-8"))
    typed = {node.names[0].name: node.module for node in stub.body if isinstance(node, ast.ImportFrom)}
    assert typed == {name: f"cinema_lightning.{place}" for name, place in cinema_lightning._PLACES.items()}
