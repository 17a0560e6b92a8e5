"""What is installed: all files of the packages, both commands, man pages, what operates them; and no test."""

import re
import subprocess
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PACKAGES = ("contract", "controller", "worker", "migrations")
OPERATING = ("compose*.yml", "packaging/stack/*", "packaging/systemd/*", "packaging/env/*")
"""Laid in `share/vxlan-operator` as in a clone."""


def wheel_of(tree: Path, folder: Path) -> ZipFile:
    """The wheel of a tree, made in `folder`."""
    (path,) = WheelBuilder(str(tree)).build(directory=str(folder), versions=["standard"])
    return ZipFile(path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """The wheel of this tree."""
    return wheel_of(ROOT, tmp_path_factory.mktemp("wheel"))


def data(wheel: ZipFile) -> dict[str, str]:
    """The names of its files that are installed outside Python's folder, by where."""
    return {name.partition(".data/data/")[2]: name for name in wheel.namelist() if ".data/" in name}


@pytest.mark.parametrize("package", ["contract", "controller", "worker"])
def test_type_checkers_see_the_types_of_an_installed_package(wheel: ZipFile, package: str) -> None:
    assert f"{package}/py.typed" in wheel.namelist()


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else_of_ours(wheel: ZipFile) -> None:
    """Modules, templates, what the dashboard serves, migrations."""
    files = {
        str(path.relative_to(ROOT))
        for folder in PACKAGES
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    names = {name for name in wheel.namelist() if not re.match(r"[^/]+\.(dist-info|data)/", name)}
    assert names == files
    assert {
        "controller/web/templates/login.html",
        "controller/web/static/dashboard.css",
        "migrations/env.py",
    } <= names


def test_the_wheel_installs_man_pages_and_what_operates_it(wheel: ZipFile) -> None:
    installed = {where: wheel.read(name) for where, name in data(wheel).items()}
    pages = {f"share/man/man1/{path.name}": path for path in (ROOT / "docs/man").iterdir()}
    operating = {
        f"share/vxlan-operator/{path.relative_to(ROOT)}": path
        for pattern in OPERATING
        for path in ROOT.glob(pattern)
    }
    monitoring = {
        f"share/vxlan-operator/{path.name}": path
        for path in (
            ROOT / "packaging/grafana/vxlan-operator.json",
            ROOT / "packaging/prometheus/vxlan-operator.rules.yml",
        )
    }
    sources = pages | operating | monitoring
    assert installed == {where: path.read_bytes() for where, path in sources.items()}
    assert {
        "share/man/man1/vxctl.1",
        "share/vxlan-operator/compose.yml",
        "share/vxlan-operator/packaging/stack/install",
        "share/vxlan-operator/packaging/systemd/vxlan-worker.service",
    } <= set(installed)


def test_the_stacks_scripts_can_be_run_where_they_are_installed(
    wheel: ZipFile, tmp_path: Path
) -> None:
    for where, name in data(wheel).items():
        file = tmp_path / where
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(wheel.read(name))
        file.chmod(wheel.getinfo(name).external_attr >> 16 & 0o777)
    stack = tmp_path / "share/vxlan-operator/packaging/stack"
    for script in ("install", "uninstall", "copy-images"):
        done = subprocess.run(
            [stack / script, "--no-such-option"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, ""), "its common part is found, too"
        assert "error: " in done.stderr


def test_the_wheel_has_both_commands(wheel: ZipFile) -> None:
    (entry_points,) = (each for each in wheel.namelist() if each.endswith("entry_points.txt"))
    text = wheel.read(entry_points).decode()
    assert "vxctl = controller.cli:main" in text
    assert "vxlan-worker = worker.cli:main" in text


def test_the_source_archive_makes_the_same_wheel(wheel: ZipFile, tmp_path: Path) -> None:
    (path,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    tree = Path(path.removesuffix(".tar.gz"))
    again = wheel_of(tree, tmp_path / "again")
    assert {each.filename: each.CRC for each in again.infolist()} == {
        each.filename: each.CRC for each in wheel.infolist()
    }
    assert not (tree / "tests").exists()
