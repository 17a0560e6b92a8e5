"""Reading the Swarm again and again: what fails changes nothing, and rejected tasks ring once."""

from dataclasses import replace

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from controller.database import Database
from controller.events import Hint, Hints
from controller.models import Cluster
from controller.states import Priority
from controller.swarm import SwarmError
from controller.sync import Sync
from tests.fake_clock import START, Clock
from tests.fake_swarm import FakeSwarm, Snapshot, node, snapshot, swarm_id, task
from tests.stored import claim, contents, due_row, node_row

LEAK = 'subnet sandbox join failed for "10.0.2.0/24": error creating vxlan interface: file exists'


class Watched:
    """A sync over a Swarm that a test changes at will."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.swarm = FakeSwarm(snapshot())
        self.rung = 0
        self.hints = Hints()
        self.sync = Sync(
            self.swarm,
            database,
            hints=self.hints,
            ring=self._ring,
            period=2.0,
            resync=60.0,
            share=0.1,
            utcnow=clock,
            monotonic=clock.monotonic,
        )

    def see(self, answer: Snapshot | SwarmError) -> bool:
        """Look once at all of this."""
        self.swarm.answer = answer
        self.hints.add(Hint(everything=True))
        return self.sync.step()

    def _ring(self) -> None:
        self.rung += 1


@pytest.fixture
def watched(database: Database, clock: Clock) -> Watched:
    """A sync that has not looked yet."""
    return Watched(database, clock)


def cluster(database: Database) -> Cluster:
    """What is known of the cluster."""
    with database.read() as session:
        return session.get_one(Cluster, 1)


def rejected(name: str = "t1", on: str = "one", error: str = LEAK) -> Snapshot:
    """A Swarm in which a node rejected a task."""
    return snapshot(tasks=[task(name, on, "shop", live=False, error=error)])


def test_what_the_swarm_says_is_stored_and_the_dispatcher_is_told(
    database: Database, watched: Watched
) -> None:
    assert watched.see(snapshot())
    assert node_row(database).hostname == "one"
    assert watched.rung == 1


def test_before_the_first_reading_a_failure_leaves_the_database_empty(
    database: Database, watched: Watched
) -> None:
    assert not watched.see(SwarmError("no leader"))
    assert not any(contents(database).values())
    assert watched.rung == 0


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(SwarmError("no leader"), "no leader", id="an error"),
        pytest.param(snapshot(swarm="other"), "is of Swarm other", id="another Swarm"),
    ],
)
def test_a_failure_leaves_desired_state_as_it_was_and_stores_the_reason(
    database: Database,
    watched: Watched,
    clock: Clock,
    answer: Snapshot | SwarmError,
    problem: str,
) -> None:
    watched.see(snapshot(tasks=[task("t1", "one", "shop")]))
    before = contents(database)
    clock.advance(5)

    assert not watched.see(answer)

    after = contents(database)
    assert {**after, "cluster": []} == {**before, "cluster": []}
    found = cluster(database)
    assert problem in str(found.sync_error)
    assert (found.synced_at, found.sync_error_at) == (START, clock.now)
    assert watched.rung == 1


def test_it_recovers(database: Database, watched: Watched, clock: Clock) -> None:
    watched.see(snapshot())
    watched.see(SwarmError("no leader"))
    clock.advance(5)
    assert watched.see(snapshot())
    found = cluster(database)
    assert (found.sync_error, found.sync_error_at, found.synced_at) == (None, None, clock.now)


def test_a_rejected_task_makes_its_node_due_at_once(database: Database, watched: Watched) -> None:
    watched.see(snapshot())
    claim(database)
    watched.see(rejected())
    row = due_row(database)
    assert (row.due_at, row.priority) == (START, Priority.DRIFT)
    assert row.reasons == [f"task {swarm_id('t1')} was rejected: {LEAK}"]
    assert due_row(database, "two").due_at is None


def test_a_task_rings_once_however_long_it_is_listed(database: Database, watched: Watched) -> None:
    watched.see(snapshot())
    for _ in range(3):
        watched.see(rejected())
    assert len(due_row(database).reasons) == len({*due_row(database).reasons})
    claim(database)
    watched.see(rejected())
    assert due_row(database).due_at is None


def test_each_task_rings_for_itself(database: Database, watched: Watched) -> None:
    watched.see(rejected("t1"))
    claim(database)
    watched.see(rejected("t2"))
    assert due_row(database).priority == Priority.DRIFT


def test_a_failure_in_between_does_not_make_it_ring_again(
    database: Database, watched: Watched
) -> None:
    watched.see(rejected())
    claim(database)
    watched.see(SwarmError("no leader"))
    watched.see(rejected())
    assert due_row(database).due_at is None


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(rejected(error="No such image: shop:latest"), id="another error"),
        pytest.param(rejected(error=""), id="no error"),
        pytest.param(rejected(on="nosuch"), id="on an unknown node"),
    ],
)
def test_other_tasks_do_not_ring(database: Database, watched: Watched, state: Snapshot) -> None:
    watched.see(snapshot())
    claim(database)
    assert watched.see(state)
    assert due_row(database).due_at is None


def test_a_rejection_that_could_not_be_stored_is_not_forgotten(
    database: Database, watched: Watched
) -> None:
    watched.see(snapshot())
    claim(database)

    def fail(*_: object) -> None:
        raise OperationalError("COMMIT", None, Exception("disk full"))

    event.listen(database.engine, "commit", fail)
    with pytest.raises(OperationalError):
        watched.see(rejected())
    event.remove(database.engine, "commit", fail)
    assert due_row(database).due_at is None

    watched.see(rejected())
    assert due_row(database).priority == Priority.DRIFT


def test_a_node_that_changes_its_name_is_not_due_for_it(
    database: Database, watched: Watched
) -> None:
    watched.see(snapshot())
    claim(database)
    watched.see(snapshot(replace(node("one"), hostname="uno"), "two"))
    assert due_row(database).due_at is None
