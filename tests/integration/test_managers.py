"""Several managers: the next is asked when one is away, none of another Swarm, and nobody goes to and fro."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from contract.runtime.dockerd import Docker
from contract.verdicts import Mode
from controller.conditions.cluster import desired_state
from controller.conditions.facts import cluster_facts
from controller.conditions.instant import Instant
from controller.conditions.model import Reason
from controller.db.engine import Database
from controller.db.models import Cluster
from controller.swarm.events import Hints
from controller.swarm.manager import DockerSwarm, look_at_others
from controller.swarm.managers import Managers
from controller.swarm.model import SwarmError
from controller.swarm.sync import Sync
from tests.controller_process import ControllerProcess, vxctl
from tests.fake_clock import Clock
from tests.fake_docker import FakeDocker, Fault
from tests.fake_swarm import SHOP, read_whole, snapshot, swarm_id, task
from tests.servers import RedisServer, await_true

STATE = snapshot("one", "two", networks=[SHOP], tasks=[task("t1", "one", "shop")])


@pytest.fixture
def dockers(tmp_path: Path) -> Iterator[list[FakeDocker]]:
    """Three managers of one Swarm."""
    with ExitStack() as running:
        yield [running.enter_context(FakeDocker(tmp_path / f"{n}.sock", STATE)) for n in range(3)]


def managers_at(dockers: Sequence[FakeDocker]) -> Managers:
    return Managers([Docker(each.url) for each in dockers])


def no_quorum(docker: FakeDocker) -> None:
    docker.info["Swarm"]["Cluster"]["ID"] = ""
    docker.info["Swarm"]["Error"] = "The swarm does not have a leader."


def asked_of(docker: FakeDocker) -> int:
    return sum(what == "nodes" for what, _ in docker.asked)


def test_the_first_is_asked_while_it_answers(dockers: list[FakeDocker]) -> None:
    swarm = DockerSwarm(managers_at(dockers))
    assert read_whole(swarm) == STATE
    assert [asked_of(each) for each in dockers] == [1, 0, 0]
    swarm.close()


@pytest.mark.parametrize("fault", ["error", "hang", "worker", "no quorum"])
def test_the_next_is_asked_and_stays_in_use_when_the_first_is_back(
    dockers: list[FakeDocker], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "hang":
        monkeypatch.setattr("controller.swarm.manager._TIMEOUT_SECONDS", 2.0)
    managers = managers_at(dockers)
    swarm = DockerSwarm(managers)
    assert read_whole(swarm) == STATE
    first = dockers[0]
    match fault:
        case "error":
            first.faults["info"] = Fault.ERROR
        case "hang":
            first.faults["info"] = Fault.HANG
        case "worker":
            first.info["Swarm"]["ControlAvailable"] = False
        case _:
            no_quorum(first)
    with pytest.raises(SwarmError) as raised:
        read_whole(swarm)
    assert raised.value.elsewhere
    assert read_whole(swarm) == STATE
    assert managers.current == Docker(dockers[1].url)
    away = managers.away()
    assert away is not None
    assert first.url in away
    first.faults.clear()
    first.show(STATE)
    look_at_others(managers)
    assert managers.away() is None
    assert read_whole(swarm) == STATE
    assert [asked_of(each) for each in dockers] == [1, 2, 0]
    swarm.close()


def test_where_none_is_left_all_are_named_and_each_is_tried_in_turn(
    dockers: list[FakeDocker],
) -> None:
    for each in dockers:
        each.faults["info"] = Fault.ERROR
    managers = managers_at(dockers)
    swarm = DockerSwarm(managers)
    elsewhere = []
    for _ in range(6):
        with pytest.raises(SwarmError) as raised:
            swarm.identity()
        elsewhere.append(raised.value.elsewhere)
    assert elsewhere == [True, True, False, False, False, False]
    assert str(raised.value).startswith("no manager can be asked: ")
    assert all(each.url in str(raised.value) for each in dockers)
    assert [sum(what == "info" for what, _ in each.versions) for each in dockers] == [2, 2, 2]
    dockers[1].faults.clear()
    with pytest.raises(SwarmError):
        swarm.identity()
    assert read_whole(swarm) == STATE
    swarm.close()


def test_a_manager_of_another_swarm_is_never_asked(dockers: list[FakeDocker]) -> None:
    managers = managers_at(dockers)
    managers.swarm_id = STATE.swarm_id
    dockers[1].info["Swarm"]["Cluster"]["ID"] = swarm_id("other")
    look_at_others(managers)
    away = str(managers.away())
    assert f"{dockers[1].url} is of Swarm {swarm_id('other')}" in away
    dockers[0].faults["info"] = Fault.ERROR
    swarm = DockerSwarm(managers)
    with pytest.raises(SwarmError):
        swarm.nodes()
    assert read_whole(swarm) == STATE
    assert [asked_of(each) for each in dockers] == [0, 0, 1]
    dockers[2].faults["info"] = Fault.ERROR
    # Whatever is asked, and first: not even the tasks of a node.
    alone = DockerSwarm(managers, Docker(dockers[1].url))
    with pytest.raises(SwarmError, match="use a database of its own") as raised:
        alone.tasks_of_nodes([swarm_id("one")])
    assert raised.value.reason == Reason.SWARM_CHANGED
    assert asked_of(dockers[1]) == 0
    swarm.close()


def test_a_reading_goes_on_with_the_next_manager_and_no_failure_is_recorded(
    dockers: list[FakeDocker], database: Database, clock: Clock
) -> None:
    hints = Hints()
    swarm = DockerSwarm(managers_at(dockers))
    sync = Sync(
        swarm, database, hints=hints, notify=lambda *_: None,
        period=1.0, resync=60.0, share=1.0, utcnow=clock,
        monotonic=lambda: clock.now.timestamp(),  # noqa: PLW0108 -- `now` is replaced
    )  # fmt: skip
    assert sync.step()
    dockers[0].faults["tasks"] = Fault.ERROR
    clock.advance(100)
    assert not sync.step()
    assert hints.wait(0), "the next step comes at once"
    assert sync.step()
    with database.read() as session:
        cluster = session.get_one(Cluster, 1)
    assert cluster.sync_error is None
    assert cluster.sync_manager == dockers[1].url
    known = desired_state(cluster_facts(cluster, Mode.ENFORCE, Instant(clock.now), timedelta(60)))
    assert known.status == "True"
    assert (
        f"by {dockers[1].url}; of the other managers: the Docker API at {dockers[0].url}"
        in known.message
    )
    for each in dockers:
        each.faults["info"] = Fault.ERROR
    clock.advance(100)
    for _ in dockers:
        assert not sync.step()
    hints.take()
    with database.read() as session:
        assert "no manager can be asked" in str(session.get_one(Cluster, 1).sync_error)
    swarm.close()


def test_status_tells_which_manager_is_asked(
    tmp_path: Path, redis_server: RedisServer, dockers: list[FakeDocker]
) -> None:
    redis_server.flush()
    hosts = ",".join(each.url for each in dockers)
    folder = tmp_path / "c"
    folder.mkdir()
    with ControllerProcess(folder, broker_url=redis_server.url, docker_url=hosts) as controller:

        def shown() -> str:
            return vxctl("status", url=controller.url).stdout

        await_true(lambda: f"by {dockers[0].url}" in shown(), "the first is asked", pause=0.5)
        assert "other managers" not in shown()
        dockers[0].faults["info"] = Fault.ERROR
        await_true(lambda: f"by {dockers[1].url}" in shown(), "the second is asked", pause=0.5)
        others = f"Of the other managers: the Docker API at {dockers[0].url} refused"
        await_true(lambda: others in shown(), "and why not the first", pause=0.5)
