"""Reports that are taken in together: the same as one by one, and none is the other's trouble."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DataError, InternalError, OperationalError
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from contract.messages import DeviceReport, ReconcileReport
from contract.signing.envelope import Opened
from contract.verdicts import Outcome, Verdict
from controller.audit import report_entries
from controller.db.engine import Database
from controller.db.models import Node
from controller.db.states import RunState
from controller.leadership.lease import LeaseLostError
from controller.runs import devices as stored_devices
from controller.runs.reports import ReportIntake
from controller.workqueue.priorities import Priority
from tests.bell import Bell
from tests.fake_clock import START, Clock
from tests.fake_swarm import snapshot, swarm_id
from tests.reports import believed, device, entry, report
from tests.stored import RESYNC, audit, claim, contents, devices, due_row, node_row, put, run_row

NODES = ("one", "two", "three")


@pytest.fixture
def bell() -> Bell:
    """A bell that was not rung."""
    return Bell()


@pytest.fixture
def intake(database: Database, bell: Bell, clock: Clock) -> ReportIntake:
    """An intake, on a Swarm of three nodes."""
    put(database, snapshot(*NODES))
    return ReportIntake(database, resync=RESYNC, notify=bell, utcnow=clock)


@pytest.fixture
def runs(intake: ReportIntake, database: Database) -> dict[str, UUID]:
    """The runs under way, by the names of their nodes."""
    claims = claim(database)
    return {name: claims[swarm_id(name)].run_id for name in NODES}


def told(runs: dict[str, UUID], **by_name: Sequence[DeviceReport]) -> list[Opened[ReconcileReport]]:
    """A report of each node, with these devices."""
    return [
        believed(report(runs[name], node=name, devices=list(by_name.get(name, ()))))
        for name in runs
    ]


def test_each_closes_its_own_run_and_brings_its_own_devices(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    intake.reports(told(runs, one=[device(1)], three=[device(1), device(2)]))
    assert {run_row(database, run).state for run in runs.values()} == {RunState.SUCCEEDED}
    assert {due_row(database, name).run_id for name in NODES} == {None}
    assert [(each.node_id, each.ifindex) for each in devices(database)] == [
        (swarm_id("one"), 1),
        (swarm_id("three"), 1),
        (swarm_id("three"), 2),
    ]


def test_one_that_cannot_be_stored_keeps_out_no_other(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stored_devices.store

    def fails_for_two(
        session: Session, reports: Sequence[ReconcileReport], now: datetime
    ) -> object:
        if any(each.node_id == swarm_id("two") for each in reports):
            raise ZeroDivisionError
        return store(session, reports, now)

    monkeypatch.setattr("controller.runs.reports.devices.store", fails_for_two)
    intake.reports(told(runs))
    states = {name: run_row(database, runs[name]).state for name in NODES}
    assert states == {
        "one": RunState.SUCCEEDED,
        "two": RunState.RUNNING,
        "three": RunState.SUCCEEDED,
    }


def test_a_database_that_is_away_is_said_so_and_nothing_of_them_is_stored(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_away(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("the server closed the connection"))

    before = contents(database)
    monkeypatch.setattr("controller.runs.reports.devices.store", is_away)
    with pytest.raises(OperationalError):
        intake.reports(told(runs))
    assert contents(database) == before


def fails_late_for_two(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let storing the entries of node `two` fail so."""
    entries = report_entries.entries

    def fails(session: Session, node: Node, told: ReconcileReport, *more: Any, **named: Any) -> Any:
        if node.hostname == "two":
            raise error
        return entries(session, node, told, *more, **named)

    monkeypatch.setattr("controller.runs.reports.report_entries.entries", fails)


def late() -> list[Opened[ReconcileReport]]:
    """Reports of runs that are not under way, each with an entry."""
    return [
        believed(report(node=name, entries=[entry(1)], journal_id=uuid4()))
        for name in ("two", "three")
    ]


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), DataError("INSERT", {}, Exception("out of range"))], ids=repr
)
def test_a_late_report_that_cannot_be_stored_is_dropped_and_holds_up_no_other(
    database: Database,
    intake: ReportIntake,
    runs: dict[str, UUID],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    fails_late_for_two(monkeypatch, error)
    first = report(runs["one"], devices=[device(1)])
    with capture_logs() as logs:
        intake.reports([believed(first), *late()])
    assert run_row(database, runs["one"]).state is RunState.SUCCEEDED
    assert [row.node_id for row in audit(database)] == [swarm_id("three")]
    dropped = [each for each in logs if each["log_level"] == "error"]
    assert [each["node_id"] for each in dropped] == [swarm_id("two")]


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("INSERT", {}, Exception("the server closed the connection")),
        InternalError("INSERT", {}, Exception("idle for too long"), connection_invalidated=True),
        LeaseLostError(),
    ],
    ids=repr,
)
def test_a_late_report_is_told_again_when_the_database_is_away_or_another_leads(
    database: Database,
    intake: ReportIntake,
    runs: dict[str, UUID],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    with monkeypatch.context() as patch:
        fails_late_for_two(patch, error)
        with pytest.raises(type(error)):
            intake.reports(late())
    intake.reports(late())
    assert {row.node_id for row in audit(database)} == {swarm_id("two"), swarm_id("three")}


def test_two_reports_of_one_node_are_taken_in_in_their_order(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    first = report(runs["one"], devices=[device(1), device(2)])
    again = report(runs["one"], devices=[device(3)], entries=[entry(1)])
    intake.reports([believed(first), believed(again)])
    assert [each.ifindex for each in devices(database)] == [1, 2], "the first has closed the run"
    assert [row.node_id for row in audit(database)][-1] == swarm_id("one")


def test_what_is_late_is_nobodys_trouble(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    intake.reports(told(runs)[:1])
    intake.reports(told(runs))
    assert {run_row(database, run).state for run in runs.values()} == {RunState.SUCCEEDED}


def test_devices_that_are_as_before_are_not_written_again(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], clock: Clock
) -> None:
    intake.reports(told(runs, one=[device(1), device(2), device(3)]))
    clock.advance(100)
    again = {name: claim(database, now=clock.now)[swarm_id(name)].run_id for name in ("one",)}
    written: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        words = statement.replace("INTO ", "").replace("FROM ", "").split()
        if words[0] != "SELECT" and words[1] == "devices":
            written.append(words[0])

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        now = [device(1), device(2, Verdict.SETTLING)]
        intake.reports(told({"one": again["one"]}, one=now))
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    assert written == ["DELETE", "UPDATE"]
    assert [(each.ifindex, each.judged_at) for each in devices(database)] == [
        (1, START),
        (2, clock.now),
    ]


def test_only_what_is_due_at_once_rings(
    database: Database, intake: ReportIntake, runs: dict[str, UUID], bell: Bell
) -> None:
    intake.reports(told({"one": runs["one"]}))
    assert bell.rung == 0
    failed = report(runs["two"], node="two", outcome=Outcome.FAILED, error="reason")
    intake.reports([believed(failed)])
    assert bell.priorities == [Priority.RETRY]
    assert node_row(database, "two").last_error == "reason"


def test_reports_do_not_wait_for_each_others_nodes(
    database: Database, intake: ReportIntake, runs: dict[str, UUID]
) -> None:
    """A node whose row somebody else holds holds up its own batch alone, not for ever."""
    if database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer")
    with database.write() as session:
        session.execute(
            text("SELECT 1 FROM nodes WHERE id = :id FOR UPDATE"), {"id": swarm_id("two")}
        )
        intake.reports(told({"one": runs["one"]}))
    assert run_row(database, runs["one"]).state is RunState.SUCCEEDED
