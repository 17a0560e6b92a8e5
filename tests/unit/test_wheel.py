"""What is installed: the packages with their types, both commands, and no test."""

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
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {name for name in names if name.endswith(".py")} == modules
    assert {name.partition("/")[0] for name in names} == set(packages)


def test_the_wheel_has_both_commands(wheel: ZipFile) -> None:
    (entry_points,) = (each for each in wheel.namelist() if each.endswith("entry_points.txt"))
    text = wheel.read(entry_points).decode()
    assert "vxctl = controller.cli:main" in text
    assert "vxlan-worker = worker.cli:main" in text
