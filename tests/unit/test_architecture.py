"""What imports what, beyond the import contracts of pyproject.toml; and that the drawing agrees with them."""

import ast
import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def importers_of(package: str) -> set[str]:
    """The modules of ours that import a package themselves."""
    return {
        str(path.relative_to(ROOT))
        for folder in ("contract", "controller", "worker", "migrations")
        for path in (ROOT / folder).rglob("*.py")
        if package in imported(path)
    }


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize(
    ("package", "module"),
    [("pyroute2", "worker/kernel/requests.py"), ("docker", "controller/swarm/manager.py")],
)
def test_one_module_talks_to_a_library(package: str, module: str) -> None:
    assert importers_of(package) == {module}


PACKAGES = [
    str(path.parent.relative_to(ROOT))
    for folder in ("contract", "controller", "worker")
    for path in sorted((ROOT / folder).rglob("__init__.py"))
]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_part_of_a_package_is_in_its_reading_order(package: str) -> None:
    folder = ROOT / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    parts = modules | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert {name for name in parts if f"`{name}`" in text} == parts


DOCUMENT = (ROOT / "docs" / "architecture.md").read_text()
DRAWING = DOCUMENT.split("```mermaid\n")[1].split("```")[0]
TOP = {"contract", "controller", "worker"}


def layers() -> list[set[str]]:
    """The packages of the layers contract, the highest layer first; a layer of modules alone is left out."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (names,) = (each["layers"] for each in contracts["contracts"] if each["type"] == "layers")
    found = [set(layer.split(" | ")) & packages_in("controller") for layer in names]
    return [layer for layer in found if layer]


def packages_in(folder: str) -> set[str]:
    """The names of a package's packages."""
    return {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}


def boxes() -> dict[str, set[str]]:
    """The boxes of the drawing, by the frame that they are in."""
    frames = re.findall(r"subgraph (\w+)\[(.*?)\n  end", DRAWING, re.DOTALL)
    return {name: set(re.findall(r"^    (\w+)\[", text, re.MULTILINE)) for name, text in frames}


def arrows() -> set[tuple[str, str]]:
    """The arrows of the drawing, from the importing box to the imported one."""
    found = set()
    for line in DRAWING.splitlines():
        ends = [set(end.strip().split(" & ")) for end in line.split("-->")]
        for begin, end in itertools.pairwise(ends):
            found |= {(above, below) for above in begin for below in end}
    return found


def test_each_package_is_a_box_of_the_drawing() -> None:
    assert boxes() == {name: packages_in(name) for name in TOP}


def test_the_arrows_of_the_drawing_are_the_layers_of_the_import_contract() -> None:
    found = layers()
    between = {
        (above, below)
        for higher, lower in itertools.pairwise(found)
        for above in higher
        for below in lower
    }
    assert arrows() == between | {("controller", "contract"), ("worker", "contract")}


def test_each_file_that_the_page_names_exists() -> None:
    named = re.findall(r"`((?:contract|controller|worker|tests)/[\w/.]+)`", DOCUMENT)
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).exists()] == []
