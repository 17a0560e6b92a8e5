"""What is installed: the packages with their types, both commands, their man pages, and no test."""

import re
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return ZipFile(path)


@pytest.mark.parametrize("package", ["contract", "controller", "worker"])
def test_type_checkers_see_the_types_of_an_installed_package(wheel: ZipFile, package: str) -> None:
    assert f"{package}/py.typed" in wheel.namelist()


def test_the_wheel_has_every_module_and_nothing_else_of_ours(wheel: ZipFile) -> None:
    packages = ("contract", "controller", "worker", "migrations")
    modules = {
        str(path.relative_to(ROOT)) for folder in packages for path in (ROOT / folder).rglob("*.py")
    }
    names = {name for name in wheel.namelist() if not re.match(r"[^/]+\.(dist-info|data)/", name)}
    assert {name for name in names if name.endswith(".py")} == modules
    assert {name.partition("/")[0] for name in names} == set(packages)


def test_the_wheel_installs_man_pages_alert_rules_and_dashboard(wheel: ZipFile) -> None:
    installed = {
        name.partition(".data/data/")[2]: wheel.read(name).decode()
        for name in wheel.namelist()
        if ".data/" in name
    }
    pages = {
        f"share/man/man1/{path.name}": path.read_text() for path in (ROOT / "docs/man").iterdir()
    }
    monitoring = {
        f"share/vxlan-operator/{path.name}": path.read_text()
        for path in (
            ROOT / "packaging/grafana/vxlan-operator.json",
            ROOT / "packaging/prometheus/vxlan-operator.rules.yml",
        )
    }
    assert installed == pages | monitoring
    assert "share/man/man1/vxctl.1" in installed


def test_the_wheel_has_both_commands(wheel: ZipFile) -> None:
    (entry_points,) = (each for each in wheel.namelist() if each.endswith("entry_points.txt"))
    text = wheel.read(entry_points).decode()
    assert "vxctl = controller.cli:main" in text
    assert "vxlan-worker = worker.cli:main" in text
