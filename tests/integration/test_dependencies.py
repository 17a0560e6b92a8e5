"""The status never lies while broker or database fail: a real Redis, full disks, locks, a standby server."""

import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import redis as redis_client

from tests.controller_process import HTTP, ControllerProcess, controller_of, vxctl
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot
from tests.integration.test_controller_process import answer_request
from tests.servers import PostgresServer, RedisServer, await_true

RARELY: Final = "--resync-seconds=3600"
"""Option: a node's next periodic run is due in an hour."""


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path / "docker.sock", snapshot("one")) as docker:
        yield docker


@pytest.fixture
def controller(
    tmp_path: Path, redis: RedisServer, docker: FakeDocker
) -> Iterator[ControllerProcess]:
    """A controller that is ready, with one node that is ready, too."""
    with controller_of(tmp_path, docker, redis.url, RARELY) as controller:
        answer_request(controller, redis)
        await_true(lambda: node_ready(controller) == "True/Converged", "the node is ready")
        yield controller


def status(controller: ControllerProcess) -> Any:
    return HTTP.get(f"{controller.url}/api/v1/status").raise_for_status().json()


def own(controller: ControllerProcess, type_: str) -> dict[str, Any]:
    """A condition that the process knows by itself."""
    (found,) = (each for each in status(controller)["conditions"] if each["type"] == type_)
    return dict(found)


def broken(
    controller: ControllerProcess, type_: str, reason: str, words: str = ""
) -> Callable[[], bool]:
    """Whether a condition is false for that reason, and has these words in its message: in one answer."""

    def is_broken() -> bool:
        found = own(controller, type_)
        as_told = (found["status"], found["reason"]) == ("False", reason)
        return as_told and words in found["message"]

    return is_broken


def node_ready(controller: ControllerProcess) -> str:
    for node in status(controller)["nodes"]:
        for each in node["conditions"]:
            if each["type"] == "Ready":
                return f"{each['status']}/{each['reason']}"
    return "?"


def problem(controller: ControllerProcess) -> str:
    answer = HTTP.get(f"{controller.url}/readyz")
    assert answer.status_code == 503
    return str(answer.json()["detail"])


def metric(controller: ControllerProcess, name: str) -> float:
    text = HTTP.get(f"{controller.url}/metrics").text
    found = re.search(rf"^vxlan_operator_{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def assert_quiet(controller: ControllerProcess) -> None:
    """No traceback, and no line a second."""
    log = controller.log()
    assert "Traceback" not in log
    assert len(log.splitlines()) < 40


def test_a_broker_that_is_killed_is_known_everywhere_and_no_worker_is_blamed(
    controller: ControllerProcess, redis: RedisServer
) -> None:
    seen = set()
    redis.stop(signal.SIGKILL)
    is_known = broken(controller, "BrokerReachable", "BrokerUnreachable", "redis.sock")
    await_true(is_known, "it is known")

    await_true(lambda: node_ready(controller).endswith("/BrokerUnreachable"), "of nodes, too")
    answer = status(controller)
    assert answer["readiness"] == {"Unknown": {"BrokerUnreachable": 1}}
    cluster = {each["type"]: each["reason"] for each in answer["cluster"]["conditions"]}
    assert cluster["WorkersPresent"] == cluster["BrokerReachable"] == "BrokerUnreachable"
    assert problem(controller).startswith("BrokerUnreachable: the broker cannot be reached: ")
    await_true(lambda: metric(controller, "broker_up") == 0, "the metric says so")
    assert metric(controller, "database_writable") == 1

    done = vxctl("requeue", "one", url=controller.url)
    assert done.returncode == 3
    assert "stored, but not sent: the broker cannot be reached" in done.stdout
    assert "it is sent as soon as that works" in done.stdout
    assert_quiet(controller)

    redis.start()

    def ready_again() -> bool:
        seen.add(node_ready(controller))
        return bool(own(controller, "BrokerReachable")["status"] == "True")

    await_true(ready_again, "it is known that it is over")
    answer_request(controller, redis)
    await_true(lambda: node_ready(controller) == "True/Converged", "the node is ready again")
    assert not {each for each in seen if "Worker" in each or "NeverSeen" in each}
    await_true(lambda: controller.answers(200), "and so is the controller")


def as_replica(client: redis_client.Redis) -> None:
    client.replicaof("127.0.0.1", "1")


def full(client: redis_client.Redis) -> None:
    client.config_set("maxmemory", "1")


def with_a_password(client: redis_client.Redis) -> None:
    client.config_set("requirepass", "s3cr3t")
    client.client_kill_filter(_type="normal", skipme=True)


def without_a_disk(client: redis_client.Redis) -> None:
    Path(str(client.config_get("dir")["dir"]), "dump.rdb").mkdir()
    client.config_set("save", "3600 100000")
    client.bgsave()
    await_true(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "it fails")


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (as_replica, "read only replica"),
        (full, "maxmemory"),
        (with_a_password, "authenticate"),
        (without_a_disk, "MISCONF"),
    ],
)
def test_a_broker_that_takes_no_messages_is_known_by_its_own_words(
    controller: ControllerProcess,
    redis: RedisServer,
    breaks: Callable[[redis_client.Redis], None],
    words: str,
) -> None:
    with redis.client() as client:
        breaks(client)
    await_true(broken(controller, "BrokerReachable", "BrokerRefuses", words), "it is known")
    await_true(lambda: words in problem(controller), "it is a reason not to be ready")
    await_true(lambda: node_ready(controller).endswith("/BrokerRefuses"), "of nodes, too")
    assert "s3cr3t" not in controller.log()
    assert_quiet(controller)


class OnSmallDisk(ControllerProcess):
    """Its folder is a tmpfs of 8 MB, in a mount namespace of its own."""

    def command(self) -> Sequence[str]:
        mount = 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"'
        small = self.folder / "disk"
        small.mkdir(exist_ok=True)
        return ("unshare", "--mount", "sh", "-c", mount, str(small), *super().command())

    @property
    def disk(self) -> Path:
        return Path(f"/proc/{self.pid}/root{self.folder / 'disk'}")


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


@pytest.mark.privileged
def test_a_full_disk_is_known_though_nothing_can_be_stored(
    tmp_path: Path, redis: RedisServer, docker: FakeDocker
) -> None:
    folder = tmp_path / "small"
    url = f"sqlite:///{folder / 'disk' / 'c.db'}"
    on_small_disk = controller_of(
        folder, docker, redis.url, RARELY, database_url=url, kind=OnSmallDisk
    )
    with on_small_disk as controller:
        assert isinstance(controller, OnSmallDisk)
        await_true(lambda: node_ready(controller) == "Unknown/NeverSeen", "nodes are judged")
        filler = controller.disk / "filler"
        fill(filler)
        is_known = broken(controller, "DatabaseWritable", "DatabaseFull", "disk is full")
        await_true(is_known, "it is known")
        assert problem(controller).startswith("DatabaseFull: the database cannot be written: ")
        await_true(lambda: metric(controller, "database_writable") == 0, "the metric says so")
        await_true(lambda: node_ready(controller) == "Unknown/ConditionsStale", "of nodes, too")
        assert status(controller)["readiness"] == {"Unknown": {"ConditionsStale": 1}}
        assert "ConditionsStale" in HTTP.get(f"{controller.url}/metrics").text
        for ready, expected in (("True", 0), ("False", 0), ("Unknown", 1)):
            nodes = HTTP.get(f"{controller.url}/api/v1/nodes", params={"ready": ready}).json()
            assert len(nodes["items"]) == expected
        done = vxctl("requeue", "one", url=controller.url)
        assert (done.returncode, "disk is full" in done.stderr) == (1, True), done.stderr
        assert_quiet(controller)
        filler.unlink()
        await_true(lambda: own(controller, "DatabaseWritable")["status"] == "True", "it is over")
        await_true(lambda: node_ready(controller) == "Unknown/NeverSeen", "nodes are judged again")


def test_a_database_that_another_program_locks_is_known(
    controller: ControllerProcess,
) -> None:
    file = controller.database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await_true(broken(controller, "DatabaseWritable", "DatabaseLocked"), "it is known")
        assert "end the program that holds it" in problem(controller)
        other.execute("ROLLBACK")
    await_true(lambda: own(controller, "DatabaseWritable")["status"] == "True", "it is over")


def test_a_primary_that_became_a_standby_is_known_to_all_controllers_and_left(
    tmp_path: Path, redis: RedisServer, docker: FakeDocker
) -> None:
    with PostgresServer() as server:
        url = server.new_database()
        with (
            controller_of(tmp_path / "1", docker, redis.url, RARELY, database_url=url) as leader,
            controller_of(tmp_path / "2", docker, redis.url, RARELY, database_url=url) as other,
        ):
            server.demote()
            for each in (leader, other):
                words = "read-only transaction"
                await_true(
                    broken(each, "DatabaseWritable", "DatabaseReadOnly", words), "it is known"
                )
                assert problem(each).startswith("DatabaseReadOnly: ")
                assert_quiet(each)
            server.promote()
            for each in (leader, other):
                await_true(lambda each=each: each.answers(200), "it is over")  # type: ignore[misc]


def test_a_database_that_is_gone_is_known_and_has_one_line_in_the_log(
    tmp_path: Path, redis: RedisServer, docker: FakeDocker
) -> None:
    with PostgresServer() as server:
        url = server.new_database()
        with controller_of(
            tmp_path / "1", docker, redis.url, RARELY, database_url=url
        ) as controller:
            # A token that was seen before still opens /metrics while the database is away.
            await_true(lambda: metric(controller, "database_writable") == 1, "it can be written")
            server.stop(signal.SIGKILL)
            await_true(
                lambda: "DatabaseUnreachable" in HTTP.get(f"{controller.url}/readyz").text,
                "it is known",
            )
            await_true(lambda: metric(controller, "database_writable") == 0, "the metric says so")
            assert_quiet(controller)
            server.start()
            await_true(lambda: controller.answers(200), "it is over")


def test_conditions_of_a_leader_that_stands_still_are_unknown_at_another(
    tmp_path: Path, redis: RedisServer, docker: FakeDocker, postgres_server: PostgresServer
) -> None:
    url = postgres_server.new_database()
    with controller_of(tmp_path / "1", docker, redis.url, RARELY, database_url=url) as leader:
        await_true(lambda: node_ready(leader) == "Unknown/NeverSeen", "nodes are judged")
        with controller_of(tmp_path / "2", docker, redis.url, RARELY, database_url=url) as other:
            assert status(other)["conditions_at"] is not None
            # It holds nothing, so the other takes over and derives them: they are never stale for long.
            os.kill(leader.pid, signal.SIGSTOP)
            await_true(lambda: status(other)["leading"], "the other leads")
            await_true(lambda: node_ready(other) == "Unknown/NeverSeen", "nodes are judged again")
