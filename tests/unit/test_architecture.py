"""Who may talk to what, beyond what the import contracts in pyproject.toml can say."""

import ast
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
    [("pyroute2", "worker/kernel/rtnetlink.py"), ("docker", "controller/swarm/manager.py")],
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
