"""The images at work: as uid 65532, with a read-only root and no more capabilities than they need."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from contract.signing.keys import SigningKey
from tests import certificates, images
from tests.images import CONTROLLER, WORKER
from tests.lab import Lab, LabError, LabNetwork, Node, command, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.privileged, pytest.mark.timeout(1200)]

_ROOT = Path(__file__).parents[2]
_HARDENED = ("--network", "host", "--read-only", "--cap-drop", "ALL")
_CAPABLE = ("--cap-add", "NET_ADMIN", "--cap-add", "NET_BROADCAST")
_STATE = "/var/lib/vxlan-operator"
_NODE_ID = "abcdefghijklmnopqrstuvwxy"
_PORT = 6400
_HEALTH = ("--health-interval", "1s", "--health-retries", "2", "--health-start-period", "1s")
_WAIT = 180.0

Compose = Callable[..., str]
"""Runs `docker-compose` with these arguments; returns its standard output."""


@pytest.fixture(scope="module")
def network(lab: Lab) -> Iterator[LabNetwork]:
    lab.manager.docker("network", "create", "--driver", "overlay", "images")
    yield lab.network("images")
    lab.manager.docker("network", "rm", "images")


@pytest.fixture
def name(node: Node, volume: str) -> Iterator[str]:
    """The name of a container, which is removed afterwards, before the volume that it may use."""
    chosen = f"test-{uuid4().hex[:12]}"
    yield chosen
    node.docker("rm", "--force", "--volumes", chosen)


@pytest.fixture
def volume(node: Node) -> Iterator[str]:
    created = node.docker("volume", "create").strip()
    yield created
    node.docker("volume", "rm", "--force", created)


@pytest.fixture
def redis(lab: Lab) -> Iterator[str]:
    """A Redis at the hub, as its URL; every node reaches it."""
    server = lab.hub_popen(
        [*("redis-server", "--bind", lab.hub_address, "--port", str(_PORT), "--save", ""),
         *("--protected-mode", "no")],
    )  # fmt: skip
    yield f"redis://{lab.hub_address}:{_PORT}/0"
    server.kill()
    server.wait(60)


def run(node: Node, *arguments: str) -> tuple[int, str, str]:
    """Run a container until it ends; return status, standard output and standard error."""
    done = command.run(node.docker_command("run", "--rm", *arguments), check=False, timeout=_WAIT)
    return done.returncode, done.stdout, done.stderr


def logs(node: Node, name: str) -> str:
    done = command.run(node.docker_command("logs", "--tail", "20", name))
    return done.stdout + done.stderr


def health(node: Node, name: str) -> str:
    shown = node.docker("inspect", "--format", "{{.State.Health.Status}}", name)
    return shown.strip()


def said(node: Node, name: str) -> list[dict[str, Any]]:
    """What the newest health checks said."""
    shown = node.docker("inspect", "--format", "{{json .State.Health.Log}}", name)
    checks: list[dict[str, Any]] = json.loads(shown)
    return checks


def await_health(node: Node, name: str, status: str) -> None:
    wait_until(
        lambda: health(node, name) == status,
        _WAIT,
        f"{name} to be {status}",
        state=lambda: f"{said(node, name)[-2:]}\n{logs(node, name)}",
    )


def await_said(node: Node, name: str, words: str) -> None:
    """Wait for a health check that says this."""
    wait_until(
        lambda: words in said(node, name)[-1]["Output"],
        _WAIT,
        f"a check of {name} to say {words!r}",
        state=lambda: said(node, name)[-2:],
    )


def send(node: Node, name: str, number: signal.Signals) -> None:
    """Send a signal from outside: the first process of a container ignores those that stop it from inside."""
    node.docker("kill", "--signal", number.name, name)


def worker(node: Node, name: str, redis: str, *options: str) -> None:
    key = SigningKey.generate().public.text
    node.docker(
        *("run", "--detach", "--name", name, *_HARDENED, *_CAPABLE, *_HEALTH),
        *("--env", f"VXLAN_OPERATOR_NODE_ID={_NODE_ID}"),
        *("--env", f"VXLAN_OPERATOR_CONTROLLER_KEY={key}"),
        *("--env", f"VXLAN_OPERATOR_BROKER_URL={redis}"),
        *options,
        WORKER,
    )


def test_scan_finds_and_removes_an_orphan(
    lab: Lab, node: Node, network: LabNetwork, tag: str
) -> None:
    image = f"vxlan-operator-worker:{tag}"
    orphan = lab.plant_orphan(node, network)
    status, shown, _ = run(node, *_HARDENED, *_CAPABLE, image, "scan")
    assert (status, orphan.exists()) == (3, True)
    assert re.search(rf"^{orphan.name} .* orphan ", shown, re.MULTILINE)
    status, shown, _ = run(node, *_HARDENED, *_CAPABLE, image, "scan", "--fix")
    assert (status, orphan.exists()) == (0, False)
    status, shown, _ = run(node, *_HARDENED, *_CAPABLE, image, "scan")
    assert status == 0
    assert orphan.name not in shown


def test_docker_load_keeps_the_capability(lab: Lab, node: Node, network: LabNetwork) -> None:
    other = lab.node("node2")
    images.copy([WORKER, CONTROLLER], node, [other])
    orphan = lab.plant_orphan(other, network)
    status, _, _ = run(other, *_HARDENED, *_CAPABLE, WORKER, "scan", "--fix")
    assert (status, orphan.exists()) == (0, False)
    shown = run(other, *_HARDENED, "--env", "VXLAN_OPERATOR_URL=", CONTROLLER, "--version")
    assert shown[0] == 0


def test_what_is_missing_is_named(node: Node, tag: str) -> None:
    image = f"vxlan-operator-worker:{tag}"
    status, _, error = run(node, *_HARDENED, image, "scan")
    assert (status, len(error.splitlines())) == (1, 2)
    assert "the kernel asks for CAP_NET_ADMIN" in error
    assert "hint: allow it: `docker run --cap-add NET_ADMIN --cap-add NET_BROADCAST" in error
    no_new = ("--security-opt", "no-new-privileges")
    status, _, error = run(node, *_HARDENED, *_CAPABLE, *no_new, image, "scan")
    assert status == 1
    assert "hint: no-new-privileges disables the capability" in error
    status, _, _ = run(node, *_HARDENED, *_CAPABLE, *no_new, "--user", "0", image, "scan")
    assert status == 0


def test_a_volume_that_root_made_is_named(node: Node, volume: str) -> None:
    run(node, "--volume", f"{volume}:/state", "bb:1", "chmod", "755", "/state")
    run(node, "--volume", f"{volume}:/state", "bb:1", "touch", "/state/of-root")
    mounted = ("--volume", f"{volume}:{_STATE}")
    settings = ("--env", f"VXLAN_OPERATOR_NODE_ID={_NODE_ID}", "--env")
    key = f"VXLAN_OPERATOR_CONTROLLER_KEY={SigningKey.generate().public.text}"
    started = (
        (*_HARDENED, *_CAPABLE, *mounted, *settings, key, WORKER),
        (*_HARDENED, *mounted, CONTROLLER),
    )
    for arguments in started:
        status, _, error = run(node, *arguments)
        assert status == 1
        assert f"chown -R 65532:65532 {_STATE}" in error
    # As docs/images.md has it.
    chown = ("--user", "0", *mounted, "--entrypoint", "chown", WORKER, "-R", "65532:65532", _STATE)
    assert run(node, *chown)[0] == 0
    status, shown, _ = run(
        node, *_HARDENED, *_CAPABLE, *mounted, WORKER, "doctor", "--output", "json"
    )
    journal = [check for check in json.loads(shown) if check["check"] == "journal"]
    assert [check["level"] for check in journal] == ["ok"]
    # Root without CAP_DAC_OVERRIDE, where no-new-privileges leaves nothing else.
    status, _, error = run(
        node, *_HARDENED, *_CAPABLE, "--user", "0", *mounted, *settings, key, WORKER
    )
    assert status == 1
    assert (
        f"belongs to uid 65532, and this process is uid 0; as root: chown -R 0:0 {_STATE}" in error
    )


def test_the_worker_is_healthy_while_its_loops_go_on(
    lab: Lab, node: Node, name: str, redis: str
) -> None:
    worker(node, name, redis)
    await_health(node, name, "healthy")
    assert node.docker("exec", name, "id", "-u").strip() == "65532"
    effective = node.docker("exec", name, "grep", "CapEff", "/proc/1/status").split()[1]
    assert int(effective, 16) == 1 << 11 | 1 << 12
    # Of its own: what the environment says of secrets is not for other processes of the user.
    status, _, _ = run(node, "--pid", f"container:{name}", "--user", "65532", "--entrypoint", "cat",
                       WORKER, "/proc/1/environ")  # fmt: skip
    assert status != 0
    send(node, name, signal.SIGSTOP)
    await_health(node, name, "unhealthy")
    await_said(node, name, "shown no life")
    send(node, name, signal.SIGCONT)
    await_health(node, name, "healthy")


def test_the_worker_stays_healthy_without_a_broker(node: Node, name: str) -> None:
    worker(node, name, "redis://127.0.0.1:1/0")
    await_health(node, name, "healthy")
    before = said(node, name)[-1]["Start"]
    # Docker keeps the newest five.
    wait_until(
        lambda: all(check["Start"] > before for check in said(node, name)),
        _WAIT,
        "five more checks",
    )
    assert {check["ExitCode"] for check in said(node, name)} == {0}


def test_a_fresh_volume_keeps_the_state(node: Node, name: str, volume: str, redis: str) -> None:
    worker(node, name, redis, "--volume", f"{volume}:{_STATE}")
    await_health(node, name, "healthy")
    shown = node.docker("exec", name, "stat", "-c", "%u:%g %a %n", _STATE, f"{_STATE}/node.key")
    assert shown.splitlines() == [f"65532:65532 700 {_STATE}", f"65532:65532 600 {_STATE}/node.key"]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_the_controller_is_healthy_while_its_api_answers(
    node: Node, name: str, volume: str, tmp_path: Path, tls: bool
) -> None:
    """There is no dockerd that it may ask, nor a broker: it waits, and that is healthy."""
    options: tuple[str, ...] = ()
    if tls:
        pair = certificates.make(tmp_path, "controller", algorithm="ec")
        node.docker("create", "--name", f"{name}-certs", "--volume", f"{volume}:/certs", "bb:1")
        for file in pair:
            file.chmod(0o444)
            node.docker("cp", str(file), f"{name}-certs:/certs/{file.name}")
        node.docker("rm", f"{name}-certs")
        options = (
            *("--volume", f"{volume}:/certs:ro"),
            *("--env", "VXLAN_OPERATOR_LISTEN_CERT=/certs/controller.crt"),
            *("--env", "VXLAN_OPERATOR_LISTEN_KEY=/certs/controller.key"),
            *("--env", "VXLAN_OPERATOR_LISTEN=0.0.0.0:8480"),
        )
    node.docker("run", "--detach", "--name", name, *_HARDENED, *_HEALTH, *options, CONTROLLER)
    await_health(node, name, "healthy")
    assert "waiting to start" in logs(node, name)
    send(node, name, signal.SIGSTOP)
    await_health(node, name, "unhealthy")
    await_said(node, name, "does not answer")
    send(node, name, signal.SIGCONT)
    await_health(node, name, "healthy")


def test_an_option_of_the_command_tells_the_health_check(node: Node, name: str) -> None:
    words = ("controller", "--listen", "127.0.0.1:8481")
    node.docker("run", "--detach", "--name", name, *_HARDENED, *_HEALTH, CONTROLLER, *words)
    await_health(node, name, "healthy")


@pytest.fixture
def compose(node: Node, tmp_path: Path) -> Iterator[Compose]:
    """`docker-compose` with compose.single.yml on the node; containers and volume are removed afterwards."""
    often = tmp_path / "often.yml"
    often.write_text("services: {operator: {healthcheck: {interval: 1s, retries: 2}}}\n")
    socket = node.docker_host.removeprefix("unix://")
    settings = {"DOCKER_HOST": node.docker_host, "DOCKER_SOCKET": socket, "HOME": str(tmp_path)}
    files = ("--file", str(_ROOT / "compose.single.yml"), "--file", str(often))
    project = f"test{uuid4().hex[:12]}"

    def run(*arguments: str) -> str:
        words = ["docker-compose", "--project-name", project, *files, *arguments]
        return command.run(words, timeout=_WAIT, env={**os.environ, **settings}).stdout

    yield run
    run("down", "--volumes")
    assert not node.docker("ps", "--all", "--quiet", "--filter", f"name={project}")


def test_one_machine_by_docker_compose(
    lab: Lab, node: Node, network: LabNetwork, compose: Compose
) -> None:
    compose("up", "--detach")
    container = compose("ps", "--quiet").strip()
    await_health(node, container, "healthy")
    orphan = lab.plant_orphan(node, network)
    wait_until(
        lambda: not orphan.exists(), _WAIT, "the orphan to go", state=lambda: logs(node, container)
    )

    def vxctl(*arguments: str) -> Any:
        return json.loads(compose("exec", "-T", "operator", "vxctl", *arguments, "-o", "json"))

    def removed() -> bool:
        try:
            rows = vxctl("audit")
        except LabError:  # While it waits to start, it is healthy and answers no question.
            return False
        return any(row["stage"] == "verified" for row in rows)

    def is_ready() -> bool:
        """The lab's other node has no worker."""
        conditions = vxctl("describe", "node", node.name)["conditions"]
        return bool(conditions[0]["status"] == "True")

    wait_until(removed, _WAIT, "the audit trail to have it")
    wait_until(is_ready, _WAIT, "the node to be ready again")
    compose("down")
    compose("up", "--detach")
    container = compose("ps", "--quiet").strip()
    await_health(node, container, "healthy")
    wait_until(removed, _WAIT, "the volume to have the audit trail")
