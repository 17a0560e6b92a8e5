"""Asking a Docker API over a Unix socket: all of it or nothing, and no other exception than SwarmError."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.errors import OperatorError
from controller.swarm import DockerSwarm, Snapshot, SwarmError
from tests.fake_docker import FakeDocker, Fault, raw_network
from tests.fake_swarm import INGRESS, MAIL, SHOP, network, node, snapshot, swarm_id, task

FULL = snapshot(
    node("one"),
    node("two", state="down", address="192.0.2.2"),
    networks=[INGRESS, network("shop", 4097, 4100), MAIL],
    tasks=[
        task("t1", "one", "shop", "mail"),
        task("t2", "two", "shop", live=False, error="error creating vxlan interface: file exists"),
        task("c1", "two", "shop", attachment=True),
    ],
    port=4790,
)
QUESTIONS = ["info", "nodes", "networks", "tasks"]


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    """A manager of a Swarm with something of everything."""
    with FakeDocker(tmp_path / "docker.sock", FULL) as docker:
        yield docker


@pytest.fixture
def swarm(docker: FakeDocker) -> Iterator[DockerSwarm]:
    """The client under test."""
    swarm = DockerSwarm(docker.url)
    yield swarm
    swarm.close()


def test_a_snapshot_is_what_the_swarm_says(swarm: DockerSwarm) -> None:
    assert swarm.snapshot() == FULL


def test_containers_of_docker_run_are_asked_for_by_themselves(
    swarm: DockerSwarm, docker: FakeDocker
) -> None:
    swarm.snapshot()
    asked = [filters for what, filters in docker.asked if what == "tasks"]
    assert asked == [{}, {"runtime": ["attachment"]}]


def test_only_overlay_networks_of_the_swarm_are_read(
    swarm: DockerSwarm, docker: FakeDocker
) -> None:
    docker.networks += [
        raw_network(network("bridge")) | {"Driver": "bridge"},
        raw_network(network("local", 4444)) | {"Scope": "local"},
    ]
    assert swarm.snapshot().networks == FULL.networks


def test_a_task_that_is_in_both_lists_counts_once(
    swarm: DockerSwarm, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fake_docker._of_runtime", lambda tasks, _runtimes: tasks)
    assert sorted(each.id for each in swarm.snapshot().tasks) == sorted(
        swarm_id(name) for name in ("t1", "t2", "c1")
    )


@pytest.mark.parametrize(("told", "port"), [(0, 4789), (None, 4789), (4789, 4789), (7789, 7789)])
def test_the_data_path_port(
    swarm: DockerSwarm, docker: FakeDocker, told: int | None, port: int
) -> None:
    docker.info["Swarm"]["Cluster"]["DataPathPort"] = told
    assert swarm.snapshot().data_path_port == port


def test_an_engine_that_knows_no_data_path_port_uses_the_usual(
    swarm: DockerSwarm, docker: FakeDocker
) -> None:
    del docker.info["Swarm"]["Cluster"]["DataPathPort"]
    assert swarm.snapshot().data_path_port == 4789


def test_the_node_that_answers(swarm: DockerSwarm) -> None:
    assert swarm.local_node_id() == swarm_id("one")


def failing(swarm: DockerSwarm) -> str:
    """How taking a snapshot fails, in one line."""
    with pytest.raises(SwarmError) as caught:
        swarm.snapshot()
    words = str(caught.value)
    assert "\n" not in words
    assert "unix://" in words
    return words


@pytest.mark.parametrize("what", QUESTIONS)
@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault.ERROR, "refused to list .*: The swarm does not have a leader"),
        (Fault.STRANGE_ERROR, "an error that is not Docker's"),
        (Fault.TRUNCATED, "does not answer"),
        (Fault.CUT, "does not answer"),
        (Fault.GARBAGE, "does not answer"),
    ],
)
def test_each_fault_of_each_question_and_that_it_recovers(
    swarm: DockerSwarm, docker: FakeDocker, what: str, fault: Fault, problem: str
) -> None:
    swarm.snapshot()
    docker.faults[what] = fault
    assert re.search(problem, failing(swarm))
    docker.faults.clear()
    assert swarm.snapshot() == FULL


@pytest.mark.parametrize("what", ["version", *QUESTIONS])
def test_a_question_without_an_answer_is_given_up(
    swarm: DockerSwarm, docker: FakeDocker, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.swarm._TIMEOUT_SECONDS", 0.2)
    docker.faults[what] = Fault.HANG
    assert "does not answer" in failing(swarm)


@pytest.mark.parametrize("fault", [each for each in Fault if each is not Fault.HANG])
def test_a_docker_that_cannot_tell_its_version(
    swarm: DockerSwarm, docker: FakeDocker, fault: Fault
) -> None:
    docker.faults["version"] = fault
    assert "does not answer" in failing(swarm)


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        pytest.param({"Swarm": {"LocalNodeState": "inactive"}}, "in no Swarm", id="not in a Swarm"),
        pytest.param({"Swarm": {"LocalNodeState": "locked"}}, "'locked'", id="locked"),
        pytest.param({"Swarm": None}, "in no Swarm", id="null"),
        pytest.param({}, "in no Swarm", id="an engine without Swarm"),
        pytest.param(
            {"Swarm": {"LocalNodeState": "active", "ControlAvailable": False}},
            "not a manager",
            id="a worker",
        ),
        pytest.param(
            {"Swarm": {"LocalNodeState": "active", "ControlAvailable": True, "Cluster": {}}},
            "not a manager",
            id="no cluster",
        ),
        pytest.param([], "cannot be understood", id="a list"),
        pytest.param("x", "cannot be understood", id="a word"),
        pytest.param({"Swarm": ["x"]}, "cannot be understood", id="a list for a Swarm"),
        pytest.param(
            {"Swarm": {"LocalNodeState": "active", "ControlAvailable": True, "Cluster": "x"}},
            "cannot be understood",
            id="a word for a cluster",
        ),
    ],
)
def test_a_docker_that_is_no_manager(
    swarm: DockerSwarm, docker: FakeDocker, info: Any, problem: str
) -> None:
    docker.info = info
    assert problem in failing(swarm)


def test_a_docker_that_is_no_manager_is_told_before_anything_starts(
    swarm: DockerSwarm, docker: FakeDocker
) -> None:
    swarm.check()
    docker.info["Swarm"]["ControlAvailable"] = False
    with pytest.raises(OperatorError, match=r"not a manager.*--docker-host"):
        swarm.check()


def test_a_manager_that_does_not_tell_its_own_id(swarm: DockerSwarm, docker: FakeDocker) -> None:
    del docker.info["Swarm"]["NodeID"]
    with pytest.raises(SwarmError, match="cannot be understood"):
        swarm.local_node_id()


@pytest.mark.parametrize(
    ("part", "raw", "problem"),
    [
        pytest.param("nodes", [], "listed no nodes", id="no nodes"),
        pytest.param("nodes", None, "understood", id="null for nodes"),
        pytest.param("nodes", {}, "listed no nodes", id="an object for nodes"),
        pytest.param("nodes", [{}], "understood.*KeyError", id="an empty node"),
        pytest.param("nodes", [None], "understood", id="null for a node"),
        pytest.param("networks", None, "understood", id="null for networks"),
        pytest.param(
            "networks", [{"Driver": "overlay", "Scope": "swarm"}], "understood", id="half a network"
        ),
        pytest.param("tasks", None, "understood", id="null for tasks"),
        pytest.param("tasks", {"a": 1}, "understood", id="an object for tasks"),
        pytest.param("tasks", 7, "understood", id="a number for tasks"),
        pytest.param(
            "tasks",
            [{"NodeID": "x", "ID": "y", "Spec": {}}],
            "understood.*Status",
            id="half a task",
        ),
        pytest.param(
            "networks",
            [raw_network(SHOP) | {"Options": "x"}],
            "understood",
            id="a word for options",
        ),
        pytest.param("networks", [raw_network(network("x", 2**24))], "24 bits", id="a huge VNI"),
        pytest.param("nodes", "x", "understood", id="a word for nodes"),
    ],
)
def test_an_answer_that_makes_no_sense(
    swarm: DockerSwarm, docker: FakeDocker, part: str, raw: Any, problem: str
) -> None:
    setattr(docker, part, raw)
    assert re.search(problem, failing(swarm))


def test_a_swarm_without_networks_and_tasks_is_possible(
    swarm: DockerSwarm, docker: FakeDocker
) -> None:
    bare: Snapshot = snapshot(networks=[])
    docker.show(bare)
    assert swarm.snapshot() == bare


@pytest.mark.parametrize(
    "url",
    [
        "",
        "garbage",
        "unix://",
        "unix:///nonexistent/docker.sock",
        "unix:///dev/null",
        "unix://" + "/x" * 200,
        "tcp://127.0.0.1:1",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:99999",
        "tcp://:::",
        "tcp://" + "x" * 300 + ":1",
        "http://[::1",
        "ssh://nobody@127.0.0.1:1",
        "npipe://x",
        "ftp://x",
    ],
)
def test_a_url_that_leads_nowhere_is_explained(url: str) -> None:
    with pytest.raises(OperatorError) as caught:
        DockerSwarm(url).check()
    assert caught.value.problem.startswith(f"the Docker API at {url} does not answer")
    assert "VXLAN_OPERATOR_DOCKER_HOST" in caught.value.remedy


def test_a_docker_that_was_restarted_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with FakeDocker(path, FULL) as docker:
        swarm = DockerSwarm(docker.url)
        assert swarm.snapshot() == FULL
    path.unlink()
    failing(swarm)
    with FakeDocker(path, snapshot()):
        assert swarm.snapshot() == snapshot()
    swarm.close()
