"""What is in the images, and what is not."""

import hashlib
import json
import re
import stat
from functools import cache
from pathlib import Path

import pytest

from contract import VERSION
from tests import images
from tests.lab import Node
from tests.stack_images.conftest import LEGACY
from tests.stack_images.exported import CAPABILITY, Exported

pytestmark = [pytest.mark.stack, pytest.mark.privileged, pytest.mark.timeout(1200)]

_WHEELS = Path(__file__).resolve().parents[2] / "build" / "wheels"
_UID = 65532
_VENV = "opt/vxlan-operator"
_STATE = "var/lib/vxlan-operator"


@cache
def _exported(node: Node, image: str) -> Exported:
    return Exported.of(node, image)


@pytest.fixture(params=["worker", "controller"])
def program(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def image(node: Node, program: str, tag: str) -> Exported:
    return _exported(node, f"vxlan-operator-{program}:{tag}")


def test_nothing_is_left_that_installs_compiles_or_gives_rights(image: Exported) -> None:
    tools = re.compile(
        r"/s?bin/(pip[0-9.]*|uv|g?cc|c\+\+|c?make|ld|as|tcc)$|/(pip|ensurepip|setuptools|wheel)$"
        r"|\.whl$|/\.cache$|/__pycache__/pip\.|^(wheels|sbom|tools)$"
    )
    assert {path for path in image.files if tools.search(path)} == set()
    special = stat.S_ISUID | stat.S_ISGID
    assert {path for path, file in image.files.items() if file.mode & special} == set()
    capable = {path for path, file in image.files.items() if CAPABILITY in file.pax_headers}
    of_worker = "title=vxlan-operator-worker" in image.history
    assert capable == ({f"{_VENV}/bin/python3"} if of_worker else set())


def test_only_the_state_can_be_written(image: Exported) -> None:
    state = image.files[_STATE]
    assert (state.uid, state.gid, state.mode & 0o7777) == (_UID, _UID, 0o700)
    assert {path for path, file in image.files.items() if file.uid == _UID} == {_STATE}
    everybody = {
        path
        for path, file in image.files.items()
        if not file.issym() and file.mode & stat.S_IWOTH and not file.ischr()
    }
    # With the sticky bit, and read-only with `--read-only`.
    assert everybody <= {"tmp", "var/tmp", "run/lock", "dev/shm"}
    assert all(image.files[path].mode & stat.S_ISVTX for path in everybody)
    assert {
        path
        for path, file in image.files.items()
        if path.startswith(f"{_VENV}/") and not file.issym() and file.mode & 0o022
    } == set()


def test_each_image_has_its_own_packages_alone(image: Exported, program: str) -> None:
    wanted = (_WHEELS / program / "requirements.txt").read_text().splitlines()
    names = {line.split(" ")[0].replace("==", "-") for line in wanted}
    installed = {name.replace("-", "_", name.count("-") - 1) for name in image.packages()}
    assert {name.lower() for name in installed} == {name.lower() for name in names}
    site = next(path for path in image.files if path.endswith("/site-packages/contract"))
    folder = site.removesuffix("contract")
    inside = (path.removeprefix(folder) for path in image.files if path.startswith(folder))
    packages = {path for path in inside if "/" not in path}
    database_and_web = {"sqlalchemy", "alembic", "psycopg", "fastapi", "starlette", "uvicorn"}
    if program == "worker":
        assert packages & {*database_and_web, "docker", "httpx", "typer", "rich"} == set()
    else:
        assert packages >= {*database_and_web, "pyroute2"}, "for `vxctl up`"
    commands = {path.rpartition("/")[2] for path in image.files if f"{_VENV}/bin/" in path}
    expected = {"worker": "vxlan-worker", "controller": "vxctl"}[program]
    assert {name for name in commands if not name.startswith("python")} == {expected}
    modules = {path for path in image.files if path.startswith(site) and path.endswith(".py")}
    for module in modules:
        package, _, name = module.rpartition("/")
        assert f"{package}/__pycache__/{name[:-3]}.cpython-313.pyc" in image.files


def test_alert_rules_and_dashboard_are_there(image: Exported) -> None:
    packaging = Path(__file__).parents[2] / "packaging"
    for source in ("prometheus/vxlan-operator.rules.yml", "grafana/vxlan-operator.json"):
        digest = hashlib.sha256((packaging / source).read_bytes()).hexdigest()
        name = source.partition("/")[2]
        assert image.digests[f"{_VENV}/share/vxlan-operator/{name}"] == digest


def test_the_sbom_names_each_package_with_a_licence(image: Exported) -> None:
    sbom = json.loads(image.sbom)
    assert sbom["bomFormat"] == "CycloneDX"
    listed = {
        f"{component['name']}-{component['version']}".lower().replace("_", "-").replace(".", "-")
        for component in sbom["components"]
    }
    installed = {name.lower().replace("_", "-").replace(".", "-") for name in image.packages()}
    assert listed == installed
    assert [each["name"] for each in sbom["components"] if not each.get("licenses")] == []


def test_how_it_starts_and_what_it_is(image: Exported, program: str) -> None:
    settings = image.settings
    assert settings["User"] == f"{_UID}:{_UID}"
    assert list(settings["Volumes"]) == [f"/{_STATE}"]
    assert settings["Healthcheck"]["Test"][:3] == ["CMD", f"/{_VENV}/bin/python3", "-I"]
    labels = {
        key.removeprefix("org.opencontainers.image."): value
        for key, value in settings["Labels"].items()
    }
    assert labels["title"] == f"vxlan-operator-{program}"
    assert labels["version"] == VERSION
    assert labels["licenses"] == "Apache-2.0"
    assert labels["base.name"] == images.BASE
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert labels["description"]
    # Nothing of the machine or the person who built it.
    assert {variable.partition("=")[0] for variable in settings["Env"]} <= {
        "PATH",
        "VXLAN_OPERATOR_ALIVE_FILE",
    }
    assert not re.search(r"(?i)token|password|secret|https?://|proxy", image.history)


def test_two_builds_differ_in_times_alone(node: Node, program: str) -> None:
    """As docs/images.md has it; here even by different builders."""
    one, other = (_exported(node, f"vxlan-operator-{program}:{tag}") for tag in (VERSION, LEGACY))
    assert one.digests == other.digests
    assert _described(one) == _described(other)


def _described(image: Exported) -> dict[str, tuple[object, ...]]:
    """Everything of each file but its times and content."""
    return {
        path: (
            file.type,
            file.mode,
            file.uid,
            file.gid,
            file.linkname,
            file.pax_headers.get(CAPABILITY),
        )
        for path, file in image.files.items()
    }


@pytest.mark.parametrize(("program", "most"), [("worker", 90), ("controller", 140)])
def test_size_above_the_base(node: Node, program: str, most: int, tag: str) -> None:
    base = json.loads(node.docker("image", "inspect", images.BASE))[0]["Size"]
    added = (_exported(node, f"vxlan-operator-{program}:{tag}").size - base) / 1e6
    assert 20 < added < most, f"{added:.1f} MB"
