"""The wheel, installed by pip and pipx from the package index with each extra, and its programs running."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest

from contract import VERSION
from contract.runtime.exit_status import ExitStatus
from contract.verdicts import Outcome
from tests.builders import NAME, VNI
from tests.conftest import empty_namespace
from tests.controller_process import ControllerProcess, environment
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot
from tests.integration.namespaces import Namespace
from tests.integration.test_worker_process import Controller, heal, running, variables
from tests.servers import RedisServer, await_true

ROOT = Path(__file__).parents[2]
EXTRAS = ("worker", "controller", "controller,worker")
WITH_WORKER = ("worker", "controller,worker")
WITH_CONTROLLER = ("controller", "controller,worker")
INSTALL_SECONDS = 500

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(600)]


def call(
    *command: str | Path, more: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end."""
    return subprocess.run(
        command,
        env=environment() | dict(more or {}),
        cwd="/",  # Not beside the tree's own packages.
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )


def done(*command: str | Path, more: Mapping[str, str] | None = None) -> str:
    """The same of one that must succeed; return what it printed."""
    ended = call(*command, more=more)
    assert ended.returncode == 0, f"{command}: status {ended.returncode}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made as docs/install-packages.md says."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    done(sys.executable, "-m", "pip", "--quiet", "wheel", *options, ROOT)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def venvs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each extra a new virtual environment in which pip has installed it."""
    made = {}
    for extra in EXTRAS:
        made[extra] = tmp_path_factory.mktemp("venv") / "venv"
        done(sys.executable, "-m", "venv", made[extra])
        done(made[extra] / "bin/pip", "--quiet", "install", f"{wheel}[{extra}]")
    return made


@pytest.fixture(scope="module")
def host() -> Iterator[Namespace]:
    with empty_namespace() as pid:
        yield Namespace(pid)


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path / "docker.sock", snapshot("one")) as docker:
        yield docker


class Installed(ControllerProcess):
    """A controller whose program is that of a virtual environment."""

    program: Path

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        return tuple(
            str(self.program) if Path(each).name == "vxctl" else each for each in super().command()
        )


@pytest.mark.parametrize("extra", EXTRAS)
def test_pip_finds_all_that_it_needs(venvs: dict[str, Path], extra: str) -> None:
    assert "No broken requirements" in done(venvs[extra] / "bin/pip", "check")
    for page in ("vxctl", "vxlan-worker"):
        assert (venvs[extra] / f"share/man/man1/{page}.1").is_file()
    assert os.access(venvs[extra] / "share/vxlan-operator/packaging/stack/install", os.X_OK)
    for program in ("vxctl", "vxlan-worker"):
        ended = call(venvs[extra] / "bin" / program, "--version")
        if program == "vxctl" and extra not in WITH_CONTROLLER:
            assert ended.returncode == ExitStatus.USAGE
            assert ended.stderr.endswith("hint: pip install 'vxlan-operator[controller]'\n")
        else:
            assert (ended.returncode, ended.stdout) == (0, f"{program} {VERSION}\n")


@pytest.mark.parametrize("extra", WITH_WORKER)
def test_the_worker_scans_examines_and_heals_a_node(
    venvs: dict[str, Path], extra: str, host: Namespace, redis_server: RedisServer, tmp_path: Path
) -> None:
    program = str(venvs[extra] / "bin/vxlan-worker")
    host.add_vxlan(NAME, VNI)
    command = host.command(program, "scan", "--fix", "--grace-seconds", "0.3", "-o", "json")
    (device,) = json.loads(done(*command))["devices"]
    assert (device["device"], device["removed"]) == (NAME, True)

    examined = call(*host.command(program, "doctor", "-o", "json"))
    assert examined.returncode == ExitStatus.NO, "there is neither Redis nor Docker"
    assert "Traceback" not in examined.stderr
    assert json.loads(examined.stdout)

    redis_server.flush()
    host.add_vxlan(NAME, VNI)
    with running(host, tmp_path, redis_server.url, command=(program, "run")):
        assert heal(Controller(redis_server)).outcome is Outcome.DONE
    assert host.ip("-o link show type vxlan") == ""


def test_without_the_workers_extra_it_says_what_to_install(venvs: dict[str, Path]) -> None:
    hint = "hint: pip install 'vxlan-operator[worker]'\n"
    for verb in ("run", "scan"):
        ended = call(venvs["controller"] / "bin/vxlan-worker", verb)
        assert ended.returncode == ExitStatus.USAGE
        assert ended.stderr.endswith(hint)
    examined = call(venvs["controller"] / "bin/vxlan-worker", "doctor")
    assert hint in examined.stdout


@pytest.mark.parametrize("extra", WITH_CONTROLLER)
def test_the_controller_answers_and_its_dashboard_can_be_seen(
    venvs: dict[str, Path],
    extra: str,
    docker: FakeDocker,
    redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    redis_server.flush()
    controller = Installed(tmp_path, broker_url=redis_server.url, docker_url=docker.url)
    controller.program = venvs[extra] / "bin/vxctl"
    with controller.running():
        assert httpx.get(f"{controller.url}/healthz").status_code == 200
        see_login(controller.url)
        url = {"VXLAN_OPERATOR_URL": controller.url}
        rows = json.loads(done(controller.program, "get", "nodes", "-o", "json", more=url))
        assert "one" in json.dumps(rows)
    assert "usage" in done(controller.program, "--help").lower()


def see_login(url: str) -> None:
    """The page and all that it loads."""
    page = httpx.get(f"{url}/login")
    assert page.status_code == 200
    assert '<form method="post" action="/login">' in page.text
    loaded = set(re.findall(r'"(/static/[^"]+)"', page.text))
    assert loaded
    assert {httpx.get(f"{url}{each}").status_code for each in loaded} == {200}


def test_both_in_one_process_heal_a_machine(
    venvs: dict[str, Path], host: Namespace, docker: FakeDocker, tmp_path: Path
) -> None:
    program = str(venvs["controller,worker"] / "bin/vxctl")
    host.ip("link set lo up")
    settings = {
        "DOCKER_HOST": docker.url,
        "JOURNAL": str(tmp_path / "journal.jsonl"),
        "DATABASE_URL": f"sqlite:///{tmp_path}/controller.db",
        "API_TOKEN_FILE": str(tmp_path / "token"),
        "SIGNING_KEY": str(tmp_path / "controller.key"),
        "GRACE_SECONDS": "0.2",
    }
    host.add_vxlan(NAME, VNI)
    log = tmp_path / "up.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            host.command(program, "up"), env=variables(settings), cwd="/", stderr=stderr
        )
    try:
        await_true(
            lambda: process.poll() is not None or host.ip("-o link show type vxlan") == "",
            "the orphan is removed",
        )
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        assert process.wait(60) == 0, log.read_text()


def test_pipx_installs_it_adds_an_extra_and_links_the_man_pages(
    wheel: Path, tmp_path: Path, host: Namespace
) -> None:
    own = tmp_path / "pipx"
    done(sys.executable, "-m", "venv", own)
    done(own / "bin/pip", "--quiet", "install", "pipx")
    folders = {
        "PIPX_HOME": str(tmp_path / "home"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_MAN_DIR": str(tmp_path / "man"),
    }
    done(own / "bin/pipx", "install", f"{wheel}[controller]", more=folders)
    assert done(tmp_path / "bin/vxctl", "--version") == f"vxctl {VERSION}\n"
    assert call(tmp_path / "bin/vxlan-worker", "scan").returncode == ExitStatus.USAGE
    assert (tmp_path / "man/man1/vxctl.1").is_file()

    done(own / "bin/pipx", "install", "--force", f"{wheel}[controller,worker]", more=folders)
    scan = (str(tmp_path / "bin/vxlan-worker"), "scan", "-o", "json")
    assert json.loads(done(*host.command(*scan)))["devices"] == []
    assert "Usage: vxctl" in done(tmp_path / "bin/vxctl", "up", "--help")
    done(own / "bin/pipx", "uninstall", "vxlan-operator", more=folders)
    assert list((tmp_path / "bin").iterdir()) == []
