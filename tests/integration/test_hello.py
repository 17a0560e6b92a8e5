"""A worker says Hello: its node is looked at at once, and what waits for the controllers stays bounded."""

import json
from pathlib import Path

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from contract.messages import Hello
from contract.queues import CONTROLLER_QUEUE, DRIFT_TASK, HELLO_TASK, REPORT_TASK
from contract.runtime.broker import HINT_EXPIRES, celery_app
from contract.signing.envelope import Opened
from controller.db.engine import Database
from controller.db.models import DueNode
from controller.db.states import RunState
from controller.runs.hints import HintIntake
from controller.workqueue.priorities import Priority
from tests import stored
from tests.bell import Bell
from tests.builders import NODE
from tests.fake_clock import START, Clock
from tests.fake_swarm import swarm_id
from tests.reports import believed, drift
from tests.servers import RedisServer
from tests.signed import CONTROLLERS_KEY
from tests.stored import RESYNC, claim, contents, due_row, node_row, put
from worker import agent as module
from worker.agent import Agent
from worker.settings import WorkerSettings


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def hints(database: Database, clock: Clock, bell: Bell) -> HintIntake:
    return HintIntake(database, notify=bell, utcnow=clock)


def hello(node: str = "one", reason: str = "the worker has started") -> Opened[Hello]:
    """What a worker says."""
    return believed(Hello(node_id=swarm_id(node), worker_version="1.2.3", at=START, reason=reason))


def test_its_node_is_looked_at_at_once_in_spite_of_its_failures(
    database: Database, hints: HintIntake, clock: Clock, bell: Bell
) -> None:
    put(database)
    for _ in range(6):
        run = claim(database, now=clock())[swarm_id("one")]
        with database.write() as session:
            stored.finish(session, run.run_id, RunState.LOST, now=clock(), resync=RESYNC)
        clock.advance(120)
    hints.hello(hello())
    row = due_row(database)
    assert row.due_at is not None
    assert row.due_at <= clock()
    assert Priority(row.priority) is Priority.DRIFT
    assert "its worker says: the worker has started" in row.reasons
    assert bell.rung == 1


def test_other_devices_are_less_urgent_than_drift(
    database: Database, hints: HintIntake, clock: Clock
) -> None:
    """They change all day where containers come and go, and a rejection must not wait for that."""
    put(database)
    claim(database, now=clock())
    with database.write() as session:
        session.execute(update(DueNode).values(run_id=None, due_at=None, priority=0, reasons=[]))
    told = hello(reason="its devices changed: new: vxlan1 in nsid:3").payload
    hints.hello(believed(told.model_copy(update={"changed": True})))
    row = due_row(database)
    assert row.due_at == clock()
    assert Priority(row.priority) is Priority.CHANGE
    assert row.reasons == ["its worker says: its devices changed: new: vxlan1 in nsid:3"]


def test_a_flood_of_drift_hints_makes_no_more_rows_than_one_hint(
    database: Database, hints: HintIntake
) -> None:
    put(database)
    for begin in range(1, 1_001, 100):
        hints.drift(believed(drift(*range(begin, begin + 100))))
    assert len(stored.devices(database)) == 100


def test_who_says_hello_was_seen(database: Database, hints: HintIntake, clock: Clock) -> None:
    put(database)
    clock.advance(5)
    hints.hello(hello())
    node = node_row(database)
    assert (node.worker_seen_at, node.worker_version) == (clock(), "1.2.3")


def test_hellos_during_a_run_make_one_more(
    database: Database, hints: HintIntake, clock: Clock
) -> None:
    put(database)
    running = claim(database)[swarm_id("one")]
    for count in range(20):
        hints.hello(hello(reason=f"no request has come for {count} s"))
    assert due_row(database).run_id == running.run_id
    with database.write() as session:
        stored.finish(session, running.run_id, RunState.SUCCEEDED, now=clock(), resync=RESYNC)
    assert swarm_id("one") in claim(database)
    assert swarm_id("one") not in claim(database)


def test_a_hello_of_no_node_of_the_swarm_changes_nothing_and_is_told(
    database: Database, hints: HintIntake
) -> None:
    put(database)
    before = contents(database)
    with capture_logs() as logs:
        hints.hello(hello("nobody"))
    assert contents(database) == before
    assert logs[0]["event"] == "Hello of a node that is not in the Swarm"


def test_a_long_reason_is_cut(database: Database, hints: HintIntake) -> None:
    put(database)
    claim(database)
    hints.hello(hello(reason="x" * 2000))
    assert len(due_row(database).reasons[0]) < 250


@pytest.mark.privileged
def test_loops_that_do_not_go_on_are_named(broker_url: str, tmp_path: Path) -> None:
    settings = WorkerSettings(
        node_id=NODE,
        journal=tmp_path / "journal.jsonl",
        controller_key=CONTROLLERS_KEY.public.text,
    )
    agent = Agent.open(settings, celery_app("worker", broker_url))
    every = ["link watch", "outbox", "watchdog", "beacon"]
    assert agent.stalled() == every
    agent.start()
    assert agent.stalled() == ["watchdog", "beacon"]
    agent.watchdog.start()
    agent.beacon.start()
    assert agent.stalled() == []
    agent.stop()
    assert agent.stalled() == every


@pytest.mark.privileged
def test_hints_stop_when_nobody_takes_them_and_reports_do_not(
    redis_server: RedisServer, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 5)
    settings = WorkerSettings(
        node_id=NODE,
        journal=tmp_path / "journal.jsonl",
        controller_key=CONTROLLERS_KEY.public.text,
    )
    agent = Agent.open(settings, celery_app("worker", broker_url))
    with redis_server.client() as client:
        for _ in range(10):
            agent._publish(DRIFT_TASK, drift(1).model_dump_json())
            agent._publish(HELLO_TASK, hello().payload.model_dump_json())
        assert client.llen(CONTROLLER_QUEUE) == 5
        agent._publish(REPORT_TASK, "{}")
        assert client.llen(CONTROLLER_QUEUE) == 6
        waiting = [json.loads(each) for each in client.lrange(CONTROLLER_QUEUE, 0, -1)]
        assert [bool(each["headers"]["expires"]) for each in waiting] == [False] + [True] * 5
        client.delete(CONTROLLER_QUEUE)
        agent._publish(DRIFT_TASK, drift(1).model_dump_json())
        assert client.llen(CONTROLLER_QUEUE) == 1
    assert HINT_EXPIRES > 300, "clocks may differ by five minutes"
