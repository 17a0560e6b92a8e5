"""The controller's ways to real dockerds: several managers over TLS, one of them killed; the socket proxy."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from contract.runtime.dockerd import Docker, api_version, get
from controller.swarm.manager import DockerSwarm
from tests.conftest import cannot
from tests.fake_swarm import read_whole
from tests.lab import Lab, Node
from tests.lab.dockerd import TLS_PORT
from tests.lab.wait import wait_until
from tests.servers import ServerMissingError, await_true
from tests.socket_proxy import SocketProxy
from tests.stack import Stack
from tests.swarm.conftest import GRACE_SECONDS, clean
from tests.swarm.services import make_network, make_service
from tests.tls_redis import Authority

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(300)]

_NOTICED_SECONDS = 90.0
_SECRET = "s3cr3t-of-a-service"


def url(node: Node) -> str:
    return f"tcp://{node.address}:{TLS_PORT}"


@pytest.fixture
def own_lab(engine: Path | None) -> Iterator[Lab]:
    """A lab for one test: a Swarm that lost a manager is slow to be one of a single manager again."""
    with Lab.create(f"managers-{os.getpid()}", nodes=3, engine=engine) as booted:
        yield booted


@pytest.fixture
def managers(own_lab: Lab, tmp_path: Path) -> tuple[str, ...]:
    """Three managers that listen with TLS, the first with a wrong address in its certificate.

    The options of a controller that may ask them.
    """
    lab = own_lab
    authority = Authority(tmp_path, "docker")
    ours = authority.sign("controller")
    first, *others = lab.nodes
    for node in lab.nodes:
        pair = authority.sign(node.name, address="192.0.2.99" if node is first else node.address)
        for source, target in zip(
            (authority.certificate, *pair), lab.docker_tls(node), strict=True
        ):
            target.write_bytes(source.read_bytes())
    # Before there are several managers, for these elect another leader each time.
    for node in lab.nodes:
        node.restart_dockerd()
    lab.wait_ready()
    lab.manager.docker("node", "promote", *(node.name for node in others))
    for node in others:
        wait_until(lambda node=node: is_manager(node), 60.0, "it knows that it is a manager")  # type: ignore[misc]
    return (
        "--docker-host", ",".join(map(url, lab.nodes)), "--docker-ca", str(authority.certificate),
        "--docker-cert", str(ours.certificate), "--docker-key", str(ours.key),
    )  # fmt: skip


def is_manager(node: Node) -> bool:
    return node.docker("info", "--format", "{{.Swarm.ControlAvailable}}").strip() == "true"


def test_a_manager_is_killed_and_the_next_one_is_read_over_tls(
    own_lab: Lab, managers: tuple[str, ...], tmp_path: Path
) -> None:
    lab = own_lab
    first, second, third = lab.nodes
    folder = tmp_path / "stack"
    folder.mkdir()
    with Stack(lab, folder, grace=GRACE_SECONDS, controller_options=managers) as stack:
        # The first one's certificate is for another address.
        asked(stack, second)
        await_true(
            lambda: "match" in (told := away(stack)) and url(third) not in told,
            "only the first is away",
            _NOTICED_SECONDS,
        )
        without_certificate(lab, managers)
        make_network(lab, "used")
        make_service(lab, "runs", "used", first)
        lab.wait_tasks("runs")
        await_true(lambda: "used" in known(stack), "the network is read")
        second.kill_dockerd()
        asked(stack, third)
        await_true(lambda: url(second) in away(stack), "the second is away", _NOTICED_SECONDS)
        # What happens meanwhile is read.
        wait_until(lambda: lab.tasks("runs"), 60.0, "there is a leader again")
        make_network(lab, "later")
        await_true(lambda: "later" in known(stack), "the new network is read", _NOTICED_SECONDS)
        second.start_dockerd()
        await_true(lambda: url(second) not in away(stack), "it is back", _NOTICED_SECONDS)
        asked(stack, third)
        assert stack.vxctl("status").count(f"by {url(third)}") == 1
        touched = [
            row for node in lab.nodes for row in stack.audit(node) if row["stage"] == "removed"
        ]
        assert touched == []
        assert lab.task_errors("runs") == []


def cluster(stack: Stack) -> dict[str, str | None]:
    found: dict[str, str | None] = stack.ask("/api/v1/status")["cluster"]
    return found


def asked(stack: Stack, node: Node) -> None:
    await_true(
        lambda: (cluster(stack)["sync_manager"], cluster(stack)["sync_error"]) == (url(node), None),
        f"{node.name} is asked",
        _NOTICED_SECONDS,
    )


def away(stack: Stack) -> str:
    return cluster(stack)["managers_away"] or ""


def known(stack: Stack) -> set[str]:
    return {row["name"] for row in stack.items("/api/v1/networks")}


def without_certificate(lab: Lab, managers: tuple[str, ...]) -> None:
    """Dockerd lets nobody in without a certificate of the authority."""
    vxctl = str(Path(sys.executable).parent / "vxctl")
    command = [vxctl, "doctor", "-o", "json"]
    settings = {"DOCKER_HOST": url(lab.nodes[2]), "DOCKER_CA": managers[3]}
    given = [f"VXLAN_OPERATOR_{name}={value}" for name, value in settings.items()]
    found = json.loads(lab.hub_run(["env", *given, *command], check=False).stdout)
    (row,) = [row for row in found if row["check"] == "docker"]
    assert row["level"] == "fail"
    assert "certificate required" in row["message"] or "bad certificate" in row["message"]


def test_the_socket_proxy_before_a_real_dockerd(
    lab: Lab, engine: Path | None, tmp_path: Path
) -> None:
    docker = Docker(lab.manager.docker_host)
    newest = get(docker, "/version")["ApiVersion"]
    assert api_version(docker) == min(newest, "1.51", key=lambda text: int(text[2:]))
    try:
        proxy = SocketProxy(tmp_path / "proxy", lab.manager.socket, engine=engine)
    except ServerMissingError as error:
        cannot(str(error))
        raise
    try:
        make_network(lab, "used")
        lab.manager.docker("service", "create", "--detach", "--name", "secretive", "--network", "used",
                           "--constraint", "node.hostname==nowhere",
                           "--env", f"PASSWORD={_SECRET}", "--label", f"a={_SECRET}",
                           "--container-label", f"b={_SECRET}", "none:1", "sh", "-c", _SECRET)  # fmt: skip
        lab.wait_tasks("secretive", "pending")
        direct = json.dumps(lab.manager.api.get("/tasks"))
        assert _SECRET in direct
        with (
            proxy,
            closing(DockerSwarm(proxy.url)) as through,
            closing(DockerSwarm(docker.url)) as straight,
        ):
            assert proxy.socket.stat().st_mode & 0o777 == 0o600
            shown = json.dumps(get(Docker(proxy.url), "/tasks"))
            assert _SECRET not in shown
            assert shown.count('"ContainerSpec": {}') == direct.count('"ContainerSpec"') > 0
            through.check()
            assert read_whole(through) == read_whole(straight)
            since = through.clock()
            stream = through.events(since)
            made = lab.manager.docker(
                "network", "create", "--driver", "overlay", "--label", "test", "event"
            ).strip()
            # Docker tells of what it does late, as of the service, in between.
            assert any(event.kind == "network" and event.id == made for event in stream)
            # Past it, nothing is changed.
            refused = proxy.say(
                b"DELETE /v1.41/services/secretive HTTP/1.1\r\nHost: docker\r\n\r\n"
            )
            assert refused[0] == 403
        assert "secretive" in lab.manager.docker("service", "ls")
    finally:
        clean(lab)
