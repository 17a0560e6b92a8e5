"""What is too old is forgotten, some at a time, and never the run that is under way."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from controller.db.engine import Database
from controller.db.models import Requeue, Run
from controller.db.states import RunState
from controller.workqueue import queue
from controller.workqueue.priorities import Priority
from controller.workqueue.retention import RunRetention
from tests import stored
from tests.fake_clock import START, Clock
from tests.fake_swarm import snapshot, swarm_id
from tests.stored import RESYNC, claim, contents, put, run_row

ONE, TWO = swarm_id("one"), swarm_id("two")
KEPT = timedelta(days=7)


@pytest.fixture
def keeper(database: Database, clock: Clock) -> RunRetention:
    """It, with a retention of a week."""
    return RunRetention(database, retention=KEPT, utcnow=clock)


def count(database: Database, table: type[Run] | type[Requeue]) -> int:
    """How many rows there are."""
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def ask(database: Database, token: str) -> None:
    """Store that somebody asked for a run of node `one`."""
    with database.write() as session:
        session.add(Requeue(token=token, node_id=ONE, requested_at=START, actor="alice"))


def test_nothing_is_forgotten_before_its_time(
    database: Database, keeper: RunRetention, clock: Clock
) -> None:
    put(database)
    run = claim(database)[ONE]
    with database.write() as session:
        stored.finish(session, run.run_id, RunState.SUCCEEDED, now=START, resync=RESYNC)
    ask(database, "t")
    before = contents(database)
    clock.advance(KEPT.total_seconds())
    assert not keeper.step()
    assert contents(database) == before


def test_what_is_old_goes_and_what_is_under_way_stays(
    database: Database, keeper: RunRetention, clock: Clock
) -> None:
    put(database)
    claims = claim(database)
    with database.write() as session:
        stored.finish(session, claims[ONE].run_id, RunState.LOST, now=START, resync=RESYNC)
    ask(database, "old")
    clock.advance(KEPT.total_seconds() + 1)
    again = claim(database, now=clock.now)[ONE]
    assert not keeper.step()
    with database.read() as session:
        assert set(session.scalars(select(Run.id))) == {claims[TWO].run_id, again.run_id}
    assert run_row(database, claims[TWO].run_id).state is RunState.RUNNING
    assert count(database, Requeue) == 0


def test_it_takes_many_small_steps(
    database: Database, keeper: RunRetention, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.workqueue.retention._BATCH", 2)
    put(database, snapshot("one", "b", "c", "d", "e"))
    for claimed in claim(database).values():
        with database.write() as session:
            stored.finish(session, claimed.run_id, RunState.SUCCEEDED, now=START, resync=RESYNC)
    for number in range(3):
        ask(database, f"t{number}")
    clock.advance(KEPT.total_seconds() + 1)
    left = []
    while keeper.step():
        left.append((count(database, Run), count(database, Requeue)))
    assert left == [(3, 1), (1, 0)]
    assert (count(database, Run), count(database, Requeue)) == (0, 0)


def test_asking_once_more_works_when_the_last_request_is_forgotten(
    database: Database, keeper: RunRetention, clock: Clock
) -> None:
    put(database)
    ask(database, "t")
    clock.advance(KEPT.total_seconds() + 1)
    keeper.step()
    with database.write() as session:
        queue.request(session, [ONE], at=clock.now, priority=Priority.MANUAL, reason="again")
    claimed = claim(database, now=clock.now)[ONE]
    assert run_row(database, claimed.run_id).actor == "controller"
