"""Conditions are derived again when something changed or time changes one, and else every few seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, event, update

from contract.runtime.refusals import Refusals
from contract.signing.refusals import Reason as Refusal
from contract.signing.refusals import RefusedError
from contract.verdicts import Mode, Verdict
from controller.conditions.model import Condition, Reason, Status
from controller.conditions.node_facts import Sign
from controller.conditions.store import ConditionStore
from controller.db.engine import Database, open_database
from controller.db.models import Cluster, Node
from controller.db.notification_models import NotificationTarget
from controller.db.states import TargetKind
from controller.health.live import Health
from controller.health.probes import DatabaseTest
from controller.leadership.lease import Lease
from tests.fake_clock import START, Clock
from tests.fake_swarm import swarm_id
from tests.integration.test_status import look, of_cluster, of_node
from tests.reports import device
from tests.stored import RESYNC, put

OTHERS_SECONDS = 2.0
"""After which what another process wrote to PostgreSQL is seen."""
ALWAYS_SECONDS = 10.0
NOTED_SECONDS = 5
"""Between notes that they still hold."""


class Leader:
    """Conditions, and what the leader knows in memory."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.clock = clock
        self.broker: Condition | None = None
        self.sign: Sign | None = None
        self.signs = 0
        self.refusals = Refusals()
        self.conditions = ConditionStore(
            database,
            mode=Mode.ENFORCE,
            resync=RESYNC,
            broker=lambda: self.broker,
            sign_of=lambda id_: self.sign and replace(self.sign, serves=id_),
            signs=lambda: self.signs,
            refusals=self.refusals,
            utcnow=clock,
        )

    def hear(self) -> None:
        """Hear a worker of each node: three signs every 2.5 s and two seconds."""
        now, allowed = self.clock.now, timedelta(seconds=9.5)
        self.sign = Sign(now, now, allowed, 2.5, ended=False, serves="")
        self.signs += 1

    def step(self, seconds: float = 0.0) -> None:
        """Let time pass, and then bring conditions up to date."""
        self.clock.advance(seconds)
        self.conditions.step()


@pytest.fixture
def leader(database: Database, clock: Clock) -> Leader:
    """The one who derives."""
    put(database)
    look(database, clock)
    leader = Leader(database, clock)
    leader.step()
    return leader


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """What is asked of the database meanwhile."""
    found: list[str] = []

    def note(_c: Connection, _k: object, statement: str, *_: object) -> None:
        found.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def dated(database: Database) -> datetime | None:
    """When the conditions were noted to hold."""
    with database.read() as session:
        return session.get_one(Cluster, 1).conditions_at


def pause(database: Database) -> None:
    with database.write() as session:
        paused = {"paused_at": START, "paused_by": "ann"}
        session.execute(update(Node).where(Node.id == swarm_id("one")).values(paused))


def test_nothing_is_asked_of_the_database_while_nothing_changes(
    sqlite: Database, clock: Clock
) -> None:
    put(sqlite)
    leader = Leader(sqlite, clock)
    leader.step()
    with statements(sqlite) as asked:
        for _ in range(NOTED_SECONDS - 1):
            leader.step(1)
        assert asked == []
        leader.step(1)
        (noted,) = [each for each in asked if not each.startswith("BEGIN")]
        assert "conditions_until" in noted
    assert dated(sqlite) == clock.now
    leader.step(ALWAYS_SECONDS - NOTED_SECONDS)
    assert dated(sqlite) == clock.now


def test_what_this_process_writes_is_seen_by_the_next_step(
    database: Database, leader: Leader
) -> None:
    pause(database)
    leader.step()
    assert of_node(database)["Ready"] == "Unknown/Paused"


def test_what_another_process_writes_is_seen_within_seconds(
    database: Database, leader: Leader
) -> None:
    other = open_database(database.engine.url.render_as_string(hide_password=False))
    try:
        pause(other)
    finally:
        other.close()
    leader.step(OTHERS_SECONDS if database.is_shared else ALWAYS_SECONDS)
    assert of_node(database)["Ready"] == "Unknown/Paused"


def test_what_a_process_writes_all_the_time_is_no_reason(sqlite: Database, clock: Clock) -> None:
    put(sqlite)
    leader = Leader(sqlite, clock)
    lease = Lease(sqlite, "a controller")
    lease.take()
    leader.step()
    lease.renew()
    DatabaseTest(sqlite, Health().database, "a controller").step()
    with statements(sqlite) as asked:
        leader.step(1)
    assert asked == []


def test_a_device_that_settles_is_a_finding_at_its_time(database: Database, leader: Leader) -> None:
    look(database, leader.clock, devices=[device(1, Verdict.SETTLING)])
    leader.step()
    for _ in range(30):
        leader.step(1)
    assert of_node(database)["Ready"] == "True/Converged"
    leader.step(0.1)
    assert of_node(database)["Ready"] == "True/LooksDead"


def test_a_worker_falls_silent_at_its_time_and_is_heard_again(
    database: Database, leader: Leader
) -> None:
    leader.hear()
    leader.step()
    for _ in range(9):
        leader.step(1)
    assert of_node(database)["Ready"] == "True/Converged"
    leader.step(0.6)
    assert of_node(database)["Ready"] == "Unknown/WorkerAway"
    leader.hear()
    leader.step(1)
    assert of_node(database)["Ready"] == "True/Converged"


def test_a_target_that_fails_for_a_minute_is_told_then_and_for_a_day(
    database: Database, leader: Leader
) -> None:
    with database.write() as session:
        target = NotificationTarget(
            name="pager",
            kind=TargetKind.WEBHOOK,
            address="https://example.org",
            created_at=START,
            created_by="ann",
            failing_since=leader.clock.now,
            error="refused",
        )
        session.add(target)
    for _ in range(60):
        leader.step(1)
    assert of_cluster(database)["NotificationsTaken"] == "True/AllTaken"
    leader.step(0.1)
    assert of_cluster(database)["NotificationsTaken"] == "False/TargetsFail"
    with database.write() as session:
        values = {"failing_since": None, "given_up_at": leader.clock.now}
        session.execute(update(NotificationTarget).values(values))
    leader.step(1)
    assert of_cluster(database)["NotificationsTaken"] == "False/TargetsFail"
    leader.step(86_399)
    assert of_cluster(database)["NotificationsTaken"] == "False/TargetsFail"
    leader.step(0.1)
    assert of_cluster(database)["NotificationsTaken"] == "True/AllTaken"


def test_the_broker_and_refused_messages_are_seen_by_the_next_step(
    database: Database, leader: Leader
) -> None:
    leader.broker = Condition(Status.FALSE, Reason.BROKER_UNREACHABLE, "away")
    leader.step()
    assert of_node(database)["Ready"] == "Unknown/BrokerUnreachable"
    leader.broker = None
    leader.step()
    assert of_node(database)["Ready"] == "True/Converged"
    leader.clock.now = datetime.now(UTC)  # The time of what is refused.
    leader.step()
    assert of_cluster(database)["MessagesBelieved"] == "True/NothingRefused"
    leader.refusals.add(RefusedError(Refusal.UNSIGNED, "so it is", None))
    leader.step()
    assert of_cluster(database)["MessagesBelieved"] == "False/MessagesRefused"
