"""Conditions in the database: they follow the rows, and only what changed is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, select, update

from contract.verdicts import Mode, Outcome, Verdict
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.db.models import Cluster, DueNode, Node
from controller.runs.reports import ReportIntake
from controller.swarm.store import note_failure
from controller.workqueue import queue, under_way
from controller.workqueue.priorities import Priority
from tests.fake_clock import Clock
from tests.fake_swarm import node, snapshot, swarm_id, task
from tests.reports import believed, device, report
from tests.stored import RESYNC, claim, node_row, put


@pytest.fixture
def conditions(database: Database, clock: Clock) -> ConditionStore:
    """What is tested."""
    return ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=clock)


def of_node(database: Database, name: str = "one") -> dict[str, str]:
    """Type to status and reason."""
    return _short(node_row(database, name).conditions)


def of_cluster(database: Database) -> dict[str, str]:
    """The same of the cluster."""
    with database.read() as session:
        return _short(session.get_one(Cluster, 1).conditions)


def _short(conditions: dict[str, Any]) -> dict[str, str]:
    return {type_: f"{each['status']}/{each['reason']}" for type_, each in conditions.items()}


def look(database: Database, clock: Clock, name: str = "one", **told: Any) -> None:
    """Let a node be claimed, and its worker report."""
    with database.write() as session:
        queue.request(
            session, [swarm_id(name)], at=clock.now, priority=Priority.MANUAL, reason="test"
        )
    run = claim(database, now=clock.now)[swarm_id(name)]
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=clock)
    intake.reports([believed(report(run.run_id, node=name, **told))])


def lose(database: Database, clock: Clock) -> None:
    """Let all that is due be claimed, and no worker report."""
    with database.write() as session:
        session.execute(update(DueNode).values(due_at=clock.now))
    claim(database, now=clock.now)
    with database.write() as session:
        under_way.expire(session, now=clock.advance(31), resync=RESYNC)


@contextmanager
def counted_writes(database: Database) -> Iterator[list[str]]:
    """The statements that change rows."""
    statements: list[str] = []

    def note(_c: Connection, _k: object, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith(("UPDATE", "INSERT", "DELETE")):
            statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def test_nothing_to_do_before_the_swarm_was_read(conditions: ConditionStore) -> None:
    assert 0.9 < conditions.step() <= 1.0


def test_they_follow_the_rows(database: Database, conditions: ConditionStore, clock: Clock) -> None:
    put(database)
    conditions.step()
    assert of_node(database) == {
        "Ready": "Unknown/NeverSeen",
        "Degraded": "Unknown/NeverSeen",
        "Stalled": "True/NeverSeen",
        "Paused": "False/NotPaused",
    }
    assert of_cluster(database) == {
        "DesiredStateKnown": "True/SwarmRead",
        "RemovalsAllowed": "True/Enforcing",
        "WorkersPresent": "False/NoWorkers",
        "MessagesBelieved": "True/NothingRefused",
        "NotificationsTaken": "True/AllTaken",
    }
    look(database, clock)
    conditions.step()
    assert of_node(database)["Ready"] == "True/Converged"
    assert of_node(database, "two")["Ready"] == "Unknown/NeverSeen"
    assert of_cluster(database)["WorkersPresent"] == "False/WorkersAway"

    look(database, clock, devices=[device(1, Verdict.CONFLICT)])
    conditions.step()
    assert of_node(database)["Ready"] == "False/DeviceConflict"

    look(database, clock, devices=[device(1, Verdict.ORPHAN), device(2, Verdict.ORPHAN)])
    conditions.step()
    assert of_node(database)["Degraded"] == "True/OrphansLeft"
    assert "2 orphans (2 blocking)" in node_row(database).conditions["Ready"]["message"]

    look(database, clock, limitations=("cannot see nsid 4",), missing=(swarm_id("shop"),))
    conditions.step()
    assert of_node(database)["Ready"] == "False/NetworkWithoutDevice"
    assert "shop" in node_row(database).conditions["Ready"]["message"]

    look(database, clock, outcome=Outcome.FAILED, error="no capability")
    conditions.step()
    assert of_node(database)["Ready"] == "False/RunFailed"

    look(database, clock)
    put(database, snapshot(tasks=[task("t", "one", "mail")]))
    conditions.step()
    assert of_node(database)["Ready"] == "False/NotConverged"

    put(database, snapshot(node("one", state="down"), "two", tasks=[task("t", "one", "mail")]))
    conditions.step()
    assert of_node(database)["Ready"] == "Unknown/NodeDown"


def test_a_run_that_ends_is_the_nodes_last_run(database: Database, clock: Clock) -> None:
    put(database)
    look(database, clock)
    row = node_row(database)
    assert (row.last_run_state, row.last_run_at) == ("succeeded", clock.now)
    first = row.last_run_id
    lose(database, clock)
    row = node_row(database)
    assert (row.last_run_state, row.last_run_at) == ("lost", clock.now)
    assert row.last_run_id not in (None, first)


def test_lost_runs_and_silence(
    database: Database, conditions: ConditionStore, clock: Clock
) -> None:
    put(database)
    look(database, clock)
    lose(database, clock)
    conditions.step()
    assert of_node(database)["Ready"] == "Unknown/RunsLost"
    lose(database, clock)
    lose(database, clock)
    conditions.step()
    assert of_node(database)["Stalled"] == "True/WorkerAway"
    look(database, clock)
    conditions.step()
    assert of_node(database)["Ready"] == "True/Converged"
    clock.advance(3 * RESYNC.total_seconds() + 1)
    conditions.step()
    assert of_node(database)["Stalled"] == "True/WorkerAway"
    assert of_cluster(database)["DesiredStateKnown"] == "Unknown/ReadingStale"


def test_silence_while_no_controller_was_there_means_nothing(
    database: Database, clock: Clock
) -> None:
    put(database)
    look(database, clock)
    clock.advance(86_400)
    restarted = ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=clock)
    restarted.step()
    assert of_node(database)["Ready"] == "Unknown/NotLookedAt"
    clock.advance(3 * RESYNC.total_seconds() + 1)
    restarted.step()
    assert of_node(database)["Ready"] == "Unknown/WorkerAway"


def test_pause_breaker_mode_and_label(
    database: Database, conditions: ConditionStore, clock: Clock
) -> None:
    put(database)
    look(database, clock, devices=[device(1, Verdict.ORPHAN)])

    def ready(**columns: Any) -> str:
        with database.write() as session:
            session.execute(update(Node).where(Node.id == swarm_id("one")).values(**columns))
        conditions.step()
        return of_node(database)["Ready"]

    assert ready(mode=None) == "False/OrphansLeft"
    assert ready(label_mode=Mode.OBSERVE) == "False/ObserveMode"
    assert ready(label_mode=None, mode=Mode.OBSERVE) == "False/ObserveMode"
    assert ready(breaker_tripped_at=clock.now, breaker_reason="too many") == "False/BreakerTripped"
    assert ready(label_ignore=True) == "Unknown/IgnoredByLabel"
    assert ready(paused_at=clock.now, paused_by="ann", paused_reason="kernel") == "Unknown/Paused"
    since = "since 2030-01-01 12:00:00 UTC"
    assert node_row(database).conditions["Ready"]["message"] == (
        f"node one is paused by ann {since}: kernel; `vxctl resume one` ends the pause"
    )


def test_what_stops_the_cluster_stops_its_nodes(
    database: Database, conditions: ConditionStore, clock: Clock
) -> None:
    put(database)
    look(database, clock, devices=[device(1, Verdict.ORPHAN)])

    def removals(**columns: Any) -> tuple[str, str]:
        with database.write() as session:
            session.execute(update(Cluster).values(**columns))
        conditions.step()
        return of_cluster(database)["RemovalsAllowed"], of_node(database)["Ready"]

    assert removals(mode=Mode.OBSERVE) == ("False/ObserveMode", "False/ObserveMode")
    assert removals(breaker_tripped_at=clock.now) == (
        "False/BreakerTripped",
        "False/BreakerTripped",
    )
    assert removals(paused_at=clock.now, paused_by="ann") == (
        "False/ClusterPaused",
        "Unknown/ClusterPaused",
    )


def test_a_persons_mode_for_the_cluster_is_over_the_settings(
    database: Database, clock: Clock
) -> None:
    put(database)
    observing = ConditionStore(database, mode=Mode.OBSERVE, resync=RESYNC, utcnow=clock)
    observing.step()
    assert of_cluster(database)["RemovalsAllowed"] == "False/ObserveMode"
    with database.write() as session:
        session.execute(update(Cluster).values(mode=Mode.ENFORCE))
    observing.step()
    assert of_cluster(database)["RemovalsAllowed"] == "True/Enforcing"


def test_the_swarm_that_cannot_be_read(
    database: Database, conditions: ConditionStore, clock: Clock
) -> None:
    put(database)
    with database.write() as session:
        note_failure(session, "no leader", clock.now)
    conditions.step()
    assert of_cluster(database)["DesiredStateKnown"] == "False/SwarmUnreadable"
    put(database)
    conditions.step()
    assert of_cluster(database)["DesiredStateKnown"] == "True/SwarmRead"


def test_only_what_changed_is_written(
    database: Database, conditions: ConditionStore, clock: Clock
) -> None:
    put(database)
    conditions.step()
    clock.advance(1)
    with counted_writes(database) as statements:
        conditions.step()
    assert statements == []
    look(database, clock)
    before = node_row(database, "two").conditions
    conditions.step()
    assert node_row(database, "two").conditions == before


def test_since_survives_a_restart(
    database: Database, conditions: ConditionStore, clock: Clock
) -> None:
    put(database)
    look(database, clock)
    conditions.step()
    first = node_row(database).conditions
    clock.advance(10)
    look(database, clock)
    ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=clock).step()
    assert node_row(database).conditions == first


def test_nobody_waits_for_a_node_that_somebody_else_changes(
    database: Database, conditions: ConditionStore, clock: Clock
) -> None:
    if database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer")
    put(database)
    with database.engine.connect() as other:
        other.execute(select(Node.id).where(Node.id == swarm_id("one")).with_for_update())
        conditions.step()
    assert of_node(database) == {}
    assert of_node(database, "two") != {}
    conditions.step()
    assert of_node(database) != {}


def test_more_nodes_than_are_held_in_memory_at_a_time(
    database: Database, conditions: ConditionStore
) -> None:
    put(database, snapshot(*(f"n{number}x" for number in range(450))))
    conditions.step()
    with database.read() as session:
        found = session.scalars(select(Node.conditions)).all()
    assert len(found) == 450
    assert all(found)


def test_a_step_asks_for_peace_in_proportion(
    database: Database, conditions: ConditionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(database)
    ticks = iter((10.0, 10.5))
    monkeypatch.setattr("controller.conditions.store.time.monotonic", lambda: next(ticks))
    assert timedelta(seconds=conditions.step()) == timedelta(seconds=2)
