"""What asks the database or a manager stands aside for urgent work, and never with what that may need."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from contract.verdicts import Mode
from controller import gate
from controller.conditions import store
from controller.conditions.model import Conditions
from controller.conditions.node import NodeFacts, of_node
from controller.db.engine import AT_ONCE, Database
from controller.swarm.manager import DockerSwarm
from tests.fake_docker import FakeDocker, Json
from tests.fake_swarm import snapshot, swarm_id
from tests.servers import await_true
from tests.stored import RESYNC, put, wipe


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stands aside does so for long, but no longer than the test."""
    monkeypatch.setattr(gate, "_until", 0.0)
    monkeypatch.setattr(gate, "_MAX_SECONDS", 60.0)


def bulk(work: Callable[[], object]) -> threading.Thread:
    """Somebody who does this now, in bulk."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def ends(thread: threading.Thread, seconds: float = 5.0) -> bool:
    """Whether somebody has ended after so long."""
    thread.join(seconds)
    return not thread.is_alive()


def test_a_transaction_waits_before_it_begins(database: Database) -> None:
    def write() -> None:
        with database.write() as session:
            session.execute(text("SELECT 1"))

    with gate.urgent():
        thread = bulk(write)
        assert not ends(thread, 0.1)
        write()  # This thread is the urgent one.
    assert ends(thread)


def test_each_question_to_postgresql_waits(postgresql: Database) -> None:
    begun, urgent = threading.Event(), threading.Event()

    def write() -> None:
        with postgresql.write() as session:
            session.execute(text("SELECT 1"))
            begun.set()
            urgent.wait(5)
            session.execute(text("SELECT 1"))

    thread = bulk(write)
    assert begun.wait(5)
    with gate.urgent():
        urgent.set()
        assert not ends(thread, 0.1)
    assert ends(thread)


def test_a_statement_for_which_others_wait_goes_on(postgresql: Database) -> None:
    with postgresql.engine.connect() as connection:
        at_once = text("SELECT 1").execution_options(**{AT_ONCE: True})
        with gate.urgent():
            assert ends(bulk(lambda: connection.execute(at_once)))
            thread = bulk(lambda: connection.execute(text("SELECT 1")))
            assert not ends(thread, 0.1)
        assert ends(thread)


def test_the_one_writer_of_sqlite_goes_on(sqlite: Database) -> None:
    """Urgent work has to write too: it would wait for one that waits for it."""
    begun, urgent = threading.Event(), threading.Event()

    def write() -> None:
        with sqlite.write() as session:
            session.execute(text("SELECT 1"))
            begun.set()
            urgent.wait(5)
            gate.stand_aside()
            session.execute(text("SELECT 1"))

    thread = bulk(write)
    assert begun.wait(5)
    with gate.urgent():
        urgent.set()
        with sqlite.write() as session:
            session.execute(text("SELECT 1"))
        assert ends(thread)


def test_working_out_conditions_waits_between_nodes(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    wipe(sqlite)
    put(sqlite, snapshot("one", "two"))
    begun, urgent = threading.Event(), threading.Event()
    looked_at = []

    def slowly(facts: NodeFacts) -> Conditions:
        looked_at.append(facts)
        begun.set()
        urgent.wait(5)
        return of_node(facts)

    monkeypatch.setattr(store, "of_node", slowly)
    conditions = store.ConditionStore(sqlite, mode=Mode.ENFORCE, resync=RESYNC)
    thread = bulk(conditions.step)
    assert begun.wait(5)
    with gate.urgent():
        urgent.set()
        assert not ends(thread, 0.1)
        assert len(looked_at) == 1
    assert ends(thread)
    assert len(looked_at) == 2


class Held(FakeDocker):
    """A manager's API that answers when it may."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, snapshot())
        self.may_answer = threading.Event()
        self.may_answer.set()

    def answer(self, what: str, filters: Json) -> object:
        """See `FakeDocker.answer`."""
        answer = super().answer(what, filters)
        self.may_answer.wait(10)
        return answer


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Held]:
    """A manager."""
    with Held(tmp_path / "docker.sock") as docker:
        yield docker


@pytest.fixture
def swarm(docker: Held) -> Iterator[DockerSwarm]:
    """A connection to it, on which something has been asked."""
    with closing(DockerSwarm(docker.url)) as swarm:
        swarm.nodes()
        docker.asked.clear()
        yield swarm


def test_a_manager_is_not_asked_meanwhile(docker: Held, swarm: DockerSwarm) -> None:
    with gate.urgent():
        thread = bulk(lambda: swarm.tasks_of_nodes([swarm_id("one")]))
        assert not ends(thread, 0.1)
        assert docker.asked == []
    assert ends(thread)
    assert docker.asked


def test_no_sense_is_made_of_a_managers_answer_meanwhile(docker: Held, swarm: DockerSwarm) -> None:
    docker.may_answer.clear()
    thread = bulk(swarm.nodes)
    await_true(lambda: docker.asked, "it is asked")
    with gate.urgent():
        docker.may_answer.set()
        assert not ends(thread, 0.1)
    assert ends(thread)
