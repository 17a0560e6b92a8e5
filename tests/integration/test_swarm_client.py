"""Asking a Docker API over a Unix socket: all of it or nothing, and no other exception than SwarmError."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.runtime.dockerd import Docker, DockerError, get
from contract.runtime.errors import OperatorError
from controller.conditions.model import Reason
from controller.swarm.manager import DockerSwarm
from controller.swarm.model import SwarmError, SwarmMovedError
from tests.fake_docker import FakeDocker, Fault, raw_network, raw_task
from tests.fake_swarm import (
    INGRESS,
    MAIL,
    SHOP,
    Snapshot,
    network,
    node,
    read_whole,
    snapshot,
    swarm_id,
    task,
)

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
    assert read_whole(swarm) == FULL


def test_containers_of_docker_run_are_asked_for_by_themselves(
    swarm: DockerSwarm, docker: FakeDocker
) -> None:
    """An engine might take the empty runtime, which the index of nodes needs, for no filter at all."""
    swarm.tasks_of_nodes([swarm_id("two")])
    asked = [filters for what, filters in docker.asked if what == "tasks"]
    node = {"node": [swarm_id("two")]}
    assert asked == [node | {"runtime": []}, node | {"runtime": ["attachment"]}]


@pytest.mark.parametrize(
    ("names", "tasks"),
    [(["one"], ["t1"]), (["two"], ["t2", "c1"]), (["two", "one"], ["t1", "t2", "c1"])],
)
def test_the_tasks_of_some_nodes(swarm: DockerSwarm, names: list[str], tasks: list[str]) -> None:
    found = swarm.tasks_of_nodes([swarm_id(name) for name in names])
    assert {each.id for each in found} == {swarm_id(name) for name in tasks}


def test_a_node_that_went_away_is_told_apart(swarm: DockerSwarm) -> None:
    with pytest.raises(SwarmMovedError, match="not found"):
        swarm.tasks_of_nodes([swarm_id("one"), swarm_id("three")])


def test_tasks_that_were_not_asked_for_are_no_answer(
    swarm: DockerSwarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a proxy or an engine that does not know the filter: the rest may be missing as well."""
    monkeypatch.setattr("tests.fake_docker._matching", lambda listed, _filters, _keys: listed)
    with pytest.raises(SwarmError, match="listed those of others: twozz"):
        swarm.tasks_of_nodes([swarm_id("one")])


def test_the_tasks_of_a_service(swarm: DockerSwarm, docker: FakeDocker) -> None:
    docker.show(
        snapshot(
            tasks=[
                task("t1", "one", "shop", service="web"),
                task("t2", "two", "shop", service="db"),
                task("c1", "two", "shop", attachment=True),
            ]
        )
    )
    assert [each.id for each in swarm.tasks_of_service(swarm_id("web"))] == [swarm_id("t1")]
    assert swarm.tasks_of_service(swarm_id("gone")) == []


def test_the_tasks_that_wait_for_their_turn(swarm: DockerSwarm, docker: FakeDocker) -> None:
    docker.tasks[0]["DesiredState"] = "ready"
    assert [each.id for each in swarm.restarting()] == [swarm_id("t1")]
    assert docker.asked[-1] == ("tasks", {"desired-state": ["ready"], "runtime": []})


def test_some_nodes_and_networks_by_id(swarm: DockerSwarm) -> None:
    assert list(swarm.nodes([swarm_id("two"), swarm_id("gone")])) == [FULL.nodes[1]]
    assert list(swarm.networks([MAIL.id, swarm_id("gone")])) == [MAIL]
    assert list(swarm.nodes([swarm_id("gone")])) == []


def test_only_overlay_networks_of_the_swarm_are_read(
    swarm: DockerSwarm, docker: FakeDocker
) -> None:
    docker.networks += [
        raw_network(network("bridge")) | {"Driver": "bridge"},
        raw_network(network("local", 4444)) | {"Scope": "local"},
    ]
    assert read_whole(swarm).networks == FULL.networks


def test_a_task_that_is_in_both_lists_counts_once(
    swarm: DockerSwarm, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fake_docker._runtime", lambda _task: "attachment")
    assert sorted(each.id for each in read_whole(swarm).tasks) == sorted(
        swarm_id(name) for name in ("t1", "t2", "c1")
    )


@pytest.mark.parametrize(("told", "port"), [(0, 4789), (None, 4789), (4789, 4789), (7789, 7789)])
def test_the_data_path_port(
    swarm: DockerSwarm, docker: FakeDocker, told: int | None, port: int
) -> None:
    docker.info["Swarm"]["Cluster"]["DataPathPort"] = told
    assert read_whole(swarm).data_path_port == port


def test_an_engine_that_knows_no_data_path_port_uses_the_usual(
    swarm: DockerSwarm, docker: FakeDocker
) -> None:
    del docker.info["Swarm"]["Cluster"]["DataPathPort"]
    assert read_whole(swarm).data_path_port == 4789


def test_the_node_that_answers(swarm: DockerSwarm) -> None:
    assert swarm.local_node_id() == swarm_id("one")


def failing(swarm: DockerSwarm) -> str:
    """How taking a snapshot fails, in one line."""
    with pytest.raises(SwarmError) as caught:
        read_whole(swarm)
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
    read_whole(swarm)
    docker.faults[what] = fault
    assert re.search(problem, failing(swarm))
    docker.faults.clear()
    assert read_whole(swarm) == FULL


@pytest.mark.parametrize("what", ["_ping", *QUESTIONS])
def test_a_question_without_an_answer_is_given_up(
    swarm: DockerSwarm, docker: FakeDocker, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.swarm.manager._TIMEOUT_SECONDS", 0.2)
    docker.faults[what] = Fault.HANG
    assert "does not answer" in failing(swarm)


@pytest.mark.parametrize("newest", ["", "1", "v1.51", "1.51.0", "1.x", "-1.41", "1." + "9" * 5000])
def test_a_docker_that_cannot_tell_its_version(
    swarm: DockerSwarm, docker: FakeDocker, newest: str
) -> None:
    docker.newest = newest
    assert "is not dockerd: HTTP 200 without an API version" in failing(swarm)


@pytest.mark.parametrize(
    ("oldest", "newest", "spoken"),
    [
        ("1.12", "1.41", "1.41"),  # 20.10
        ("1.24", "1.45", "1.45"),  # 26.1
        ("1.24", "1.51", "1.51"),  # 28.5
        ("1.44", "1.52", "1.51"),  # 29.0
        ("1.40", "1.57", "1.51"),  # 29.10
        ("1.51", "1.9999", "1.51"),
    ],
)
def test_the_newest_version_that_both_speak_is_used(
    swarm: DockerSwarm, docker: FakeDocker, oldest: str, newest: str, spoken: str
) -> None:
    docker.oldest, docker.newest = oldest, newest
    assert read_whole(swarm) == FULL
    assert {version for _, version in docker.versions} == {None, f"v{spoken}"}
    assert [what for what, version in docker.versions if version is None] == ["_ping"]


@pytest.mark.parametrize(
    ("oldest", "newest", "words"),
    [
        ("1.12", "1.40", "ends with version 1.40, and 1.41 is needed: upgrade Docker"),
        (
            "1.52",
            "1.60",
            "begins with version 1.52, and this program knows 1.41 to 1.51: upgrade vxlan",
        ),
    ],
)
def test_a_docker_that_speaks_no_version_of_ours_is_told(
    swarm: DockerSwarm, docker: FakeDocker, oldest: str, newest: str, words: str
) -> None:
    docker.oldest, docker.newest = oldest, newest
    assert failing(swarm).startswith(f"the Docker API at {docker.url} {words}")
    with pytest.raises(DockerError, match=words):
        get(Docker(docker.url), "/info")


def test_a_docker_that_was_upgraded_or_downgraded_meanwhile_is_asked_in_its_version(
    swarm: DockerSwarm, docker: FakeDocker
) -> None:
    for oldest, newest in (("1.12", "1.41"), ("1.44", "1.52"), ("1.12", "1.41"), ("1.24", "1.51")):
        docker.oldest, docker.newest = oldest, newest
        assert read_whole(swarm) == FULL
        assert get(Docker(docker.url), "/info") == docker.info
    listener = DockerSwarm(docker.url)
    since = listener.clock()
    docker.oldest, docker.newest = "1.12", "1.41"
    docker.tell("service", "web")
    assert next(listener.events(since)).id == "web"
    listener.close()


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        pytest.param({"Swarm": {"LocalNodeState": "inactive"}}, "in no Swarm", id="not in a Swarm"),
        pytest.param({"Swarm": {"LocalNodeState": "locked"}}, "'locked'", id="locked"),
        pytest.param(
            {"Swarm": {"LocalNodeState": "pending", "Error": "deadline exceeded"}},
            "'pending': deadline exceeded; wait",
            id="pending",
        ),
        pytest.param(
            {"Swarm": {"LocalNodeState": "error", "Error": "certificate has expired"}},
            "'error': certificate has expired; look at dockerd's log",
            id="error",
        ),
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


def test_a_docker_that_is_not_there_is_told_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(SwarmError) as caught:
        DockerSwarm(f"unix://{tmp_path / 'none.sock'}").identity()
    assert str(caught.value).endswith(
        "does not answer: No such file or directory: start dockerd there (`systemctl start docker`)"
    )


def test_a_docker_that_hangs_is_told_in_plain_words(
    swarm: DockerSwarm, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.swarm.manager._TIMEOUT_SECONDS", 1)
    docker.faults["info"] = Fault.HANG
    with pytest.raises(
        SwarmError, match="does not answer: nothing came for 1 s: look at dockerd's"
    ):
        swarm.identity()


def test_a_manager_without_a_quorum_is_not_another_swarm(
    swarm: DockerSwarm, docker: FakeDocker
) -> None:
    """Docker answers so, from 20.10 on: active, a manager, and a cluster without an id."""
    docker.info["Swarm"]["Cluster"]["ID"] = ""
    docker.info["Swarm"]["Error"] = "rpc error: The swarm does not have a leader."
    with pytest.raises(SwarmError, match="does not have a leader; bring back") as caught:
        swarm.identity()
    assert caught.value.reason == Reason.SWARM_UNREADABLE
    swarm.check()  # The controller starts then, and says so.


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
        pytest.param("nodes", {}, "understood.*a list was expected", id="an object for nodes"),
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
            [{"NodeID": swarm_id("one"), "ID": "y", "Spec": {}}],
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


def test_a_task_without_a_node_is_left_out(swarm: DockerSwarm, docker: FakeDocker) -> None:
    placed = task("t1", "one", "shop", service="web")
    waiting = raw_task(task("t2", "one", "shop", service="web")) | {"NodeID": ""}
    docker.tasks = [raw_task(placed), waiting]
    assert swarm.tasks_of_service(swarm_id("web")) == [placed]


def test_a_swarm_without_networks_and_tasks_is_possible(
    swarm: DockerSwarm, docker: FakeDocker
) -> None:
    bare: Snapshot = snapshot(networks=[])
    docker.show(bare)
    assert read_whole(swarm) == bare


@pytest.mark.parametrize(
    "url",
    ["unix:///nonexistent/docker.sock", "unix:///dev/null", "unix:///x" * 20, "tcp://127.0.0.1:1"],
)
def test_a_url_that_leads_nowhere_is_explained(url: str) -> None:
    with pytest.raises(OperatorError) as caught:
        DockerSwarm(url).check()
    assert caught.value.problem.startswith(f"the Docker API at {url} does not answer")
    assert "VXLAN_OPERATOR_DOCKER_HOST" in caught.value.hint


def test_a_docker_that_was_restarted_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with FakeDocker(path, FULL) as docker:
        swarm = DockerSwarm(docker.url)
        assert read_whole(swarm) == FULL
    path.unlink()
    failing(swarm)
    with FakeDocker(path, snapshot()):
        assert read_whole(swarm) == snapshot()
    swarm.close()


@pytest.fixture
def listener(docker: FakeDocker) -> Iterator[DockerSwarm]:
    """A client of its own for events."""
    listener = DockerSwarm(docker.url)
    yield listener
    listener.close()


def test_events_since_a_time_by_the_managers_clock(
    listener: DockerSwarm, docker: FakeDocker
) -> None:
    docker.tell("service", "before")
    docker.info["SystemTime"] = "2020-01-01T00:00:00.5Z"
    since = listener.clock()
    assert since == "1577836800.500000"
    first = next(listener.events(since))
    assert (first.kind, first.id) == ("service", "before")
    docker.tell("node", "after")
    stream = listener.events(first.at)
    assert [next(stream).id, next(stream).id] == ["before", "after"]
    assert docker.asked[-1][1] == {"scope": ["swarm"], "type": ["service", "network", "node"]}


def test_events_end_after_a_silence(listener: DockerSwarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.swarm.manager._SILENCE_SECONDS", 0.2)
    assert list(listener.events(listener.clock())) == []


def test_a_server_that_hangs_before_the_first_event_is_a_silence_too(
    listener: DockerSwarm, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.swarm.manager._SILENCE_SECONDS", 0.2)
    docker.faults["events"] = Fault.HANG
    assert list(listener.events(listener.clock())) == []


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.STRANGE_ERROR, Fault.GONE, Fault.GARBAGE])
def test_events_that_cannot_be_had(listener: DockerSwarm, docker: FakeDocker, fault: Fault) -> None:
    docker.faults["events"] = fault
    with pytest.raises(SwarmError, match="events"):
        list(listener.events(listener.clock()))


def test_a_stream_that_the_server_ends_is_told(listener: DockerSwarm, docker: FakeDocker) -> None:
    docker.tell("service", "web")
    stream = listener.events("0")
    assert next(stream).id == "web"
    docker.end_events()
    with pytest.raises(SwarmError, match="ended its events"):
        next(stream)


def test_an_event_that_makes_no_sense(listener: DockerSwarm, docker: FakeDocker) -> None:
    docker.tell("service", "web")
    del docker._events[0]["Actor"]
    with pytest.raises(SwarmError, match="understood"):
        list(listener.events("0"))
