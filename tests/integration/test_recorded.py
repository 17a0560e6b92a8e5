"""What the audit trail says of a report: who asked, what changed, what happened; each once."""

import re
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from contract.messages import DeviceReport, ReconcileReport
from contract.verdicts import Outcome, Stage, Urgency, Verdict
from controller.db.engine import Database
from controller.db.models import Run
from controller.runs.hints import HintIntake
from controller.runs.reports import ReportIntake
from tests.fake_clock import START, Clock
from tests.fake_swarm import SHOP, snapshot, swarm_id, task
from tests.reports import believed, device, drift, entry, identity, report
from tests.stored import RESYNC, audit, claim, contents, put
from tests.trail import check

ONE = swarm_id("one")


@pytest.fixture
def intake(database: Database, clock: Clock) -> ReportIntake:
    """The tasks of queue `controller`."""
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    return ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=clock)


def new_run(database: Database, clock: Clock, *, actor: str = "controller") -> UUID:
    """Claim a run of node `one`."""
    run_id = claim(database, now=clock.advance(100))[ONE].run_id
    with database.write() as session:
        session.get_one(Run, run_id).actor = actor
    return run_id


def look(
    database: Database, intake: ReportIntake, clock: Clock, *told: DeviceReport
) -> ReconcileReport:
    """Take in the report of a new run."""
    made = report(new_run(database, clock), devices=told)
    intake.reports([believed(made)])
    return made


def stages(database: Database) -> list[Stage]:
    """The stages of all rows, in the order of the chain."""
    assert check(database) is None
    return [row.stage for row in sorted(audit(database), key=lambda row: row.position or 0)]


def test_a_run_that_finds_nothing_new_leaves_no_row(
    database: Database, intake: ReportIntake, clock: Clock
) -> None:
    for _ in range(3):
        look(database, intake, clock, device(1), device(2, Verdict.SETTLING))
    assert stages(database) == []


def test_the_request_comes_before_what_its_run_found_once_and_with_who_asked(
    database: Database, intake: ReportIntake, clock: Clock
) -> None:
    run_id = new_run(database, clock, actor="ann")
    entries = [
        entry(number, stage=stage).model_copy(update={"run_id": run_id})
        for number, stage in enumerate((Stage.DETECTED, Stage.PLANNED, Stage.APPLIED), 1)
    ]
    journal = uuid4()
    told = report(run_id, entries=entries[:2], journal_id=journal)
    intake.reports([believed(told)])
    intake.reports([believed(report(entries=entries, journal_id=journal))])
    assert stages(database) == [Stage.REQUESTED, Stage.DETECTED, Stage.PLANNED, Stage.APPLIED]
    first = audit(database)[0]
    with database.read() as session:
        run = session.get_one(Run, run_id)
    assert (first.at, first.run_id, first.node_name) == (run.requested_at, run_id, "one")
    assert first.reason == "; ".join(run.reasons) != ""
    assert {row.actor for row in audit(database)} == {"ann"}


def test_entries_of_earlier_runs_are_told_of_under_their_own_requests(
    database: Database, intake: ReportIntake, clock: Clock
) -> None:
    first = new_run(database, clock, actor="ann")
    intake.reports([believed(report(first, outcome=Outcome.FAILED, error="reason"))])
    second = new_run(database, clock, actor="bob")
    entries = [
        entry(number).model_copy(update={"run_id": run_id})
        for number, run_id in enumerate((first, first, second), 1)
    ]
    told = report(second, entries=entries, journal_id=uuid4())
    intake.reports([believed(told)])
    assert [(row.stage, row.actor, row.run_id) for row in audit(database)] == [
        (Stage.REQUESTED, "ann", first),
        (Stage.APPLIED, "ann", first),
        (Stage.APPLIED, "ann", first),
        (Stage.REQUESTED, "bob", second),
        (Stage.APPLIED, "bob", second),
    ]


def test_a_run_of_another_node_is_on_nobodys_word(
    database: Database, intake: ReportIntake, clock: Clock
) -> None:
    runs = claim(database, now=clock.advance(100))
    other = next(each.run_id for node_id, each in runs.items() if node_id != ONE)
    told = report(entries=[entry(1).model_copy(update={"run_id": other})], journal_id=uuid4())
    intake.reports([believed(told)])
    assert stages(database) == [Stage.APPLIED]


@pytest.mark.parametrize(
    ("verdicts", "changes"),
    [
        pytest.param(
            [Verdict.SETTLING, Verdict.IN_USE], ["was settling, now in_use: reason"], id="up"
        ),
        pytest.param(
            [Verdict.IN_USE, Verdict.SETTLING, Verdict.ORPHAN],
            ["was in_use, now settling: reason", "was settling, now orphan/blocking: reason"],
            id="left",
        ),
        pytest.param([Verdict.IN_USE] * 3, [], id="the same"),
        pytest.param([Verdict.ORPHAN], [], id="an orphan at first sight: it has its own row"),
        pytest.param([Verdict.FOREIGN] * 2, ["first seen, now foreign: reason"], id="foreign"),
        pytest.param(
            [Verdict.CONFLICT, Verdict.FOREIGN],
            ["first seen, now conflict: reason", "was conflict, now foreign: reason"],
            id="conflict",
        ),
    ],
)
def test_each_change_of_verdict_is_kept(
    database: Database,
    intake: ReportIntake,
    clock: Clock,
    verdicts: list[Verdict],
    changes: list[str],
) -> None:
    for verdict in verdicts:
        look(database, intake, clock, device(7, verdict))
    rows = [row for row in audit(database) if row.stage is Stage.VERDICT_CHANGED]
    assert [row.reason for row in rows] == changes
    assert stages(database) == [Stage.REQUESTED, Stage.VERDICT_CHANGED] * len(changes)


def test_a_stale_orphan_that_blocks_by_now_has_a_row_that_says_so(
    database: Database, intake: ReportIntake, clock: Clock
) -> None:
    """Else the trail goes on saying `stale ... not wanted` of what keeps tasks from starting."""
    stale = device(7, Verdict.ORPHAN).model_copy(update={"urgency": Urgency.STALE})
    look(database, intake, clock, stale)
    look(database, intake, clock, device(7, Verdict.ORPHAN))
    look(database, intake, clock, device(7, Verdict.ORPHAN))
    row = audit(database)[-1]
    assert (row.stage, row.urgency) == (Stage.VERDICT_CHANGED, Urgency.BLOCKING)
    assert row.reason == "was orphan/stale, now orphan/blocking: reason"
    assert stages(database) == [Stage.REQUESTED, Stage.VERDICT_CHANGED]


def test_a_change_of_verdict_says_everything(
    database: Database, intake: ReportIntake, clock: Clock
) -> None:
    look(database, intake, clock, device(7, Verdict.IN_USE))
    told = look(database, intake, clock, device(7, Verdict.ORPHAN))
    row = audit(database)[-1]
    assert (row.stage, row.verdict, row.urgency) == (
        Stage.VERDICT_CHANGED,
        Verdict.ORPHAN,
        told.devices[0].urgency,
    )
    assert (row.run_id, row.at, row.stored_at) == (told.run_id, told.started_at, clock.now)
    assert (row.netns, row.ifindex, row.name, row.vni, row.port) == (
        "host",
        7,
        identity().name,
        4097,
        4789,
    )
    assert (row.node_id, row.node_name) == (ONE, "one")
    assert (row.network_id, row.network_name) == (SHOP.id, "shop")
    assert (row.evidence, row.worker_version, row.actor) == ("what", "1.2.3", "controller")


def test_another_device_under_the_same_number_is_no_change(
    database: Database, intake: ReportIntake, clock: Clock
) -> None:
    look(database, intake, clock, device(7, Verdict.IN_USE))
    look(database, intake, clock, device(7, Verdict.ORPHAN, vni=4098))
    assert stages(database) == []


def test_a_hint_of_the_watch_is_no_verdict(
    database: Database, intake: ReportIntake, clock: Clock
) -> None:
    HintIntake(database, notify=lambda *_: None, utcnow=clock).drift(believed(drift(7)))
    look(database, intake, clock, device(7, Verdict.ORPHAN))
    assert stages(database) == []


def test_a_report_that_comes_again_and_one_that_is_late_change_nothing(
    database: Database, intake: ReportIntake, clock: Clock
) -> None:
    first = look(database, intake, clock, device(7, Verdict.FOREIGN))
    second = look(database, intake, clock, device(7, Verdict.CONFLICT))
    before = contents(database)
    for told in (first, second, report(devices=[device(7, Verdict.IN_USE)])):
        intake.reports([believed(told)])
    assert contents(database) == before
    assert audit(database)[0].stored_at > START


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_end_of_the_chain_is_locked_last(database: Database, clock: Clock) -> None:
    """Who holds it waits for no other row: so nobody can hold that row and wait for them."""
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=clock)
    run_id = new_run(database, clock)
    told = report(
        run_id,
        devices=[device(7, Verdict.ORPHAN, removed=True), device(8, Verdict.FOREIGN)],
        entries=[entry(1).model_copy(update={"run_id": run_id})],
        journal_id=uuid4(),
    )
    statements: list[str] = []

    def note(*arguments: object) -> None:
        statements.append(" ".join(str(arguments[2]).split()))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        intake.reports([believed(told)])
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    assert stages(database) == [
        Stage.REQUESTED,
        Stage.VERDICT_CHANGED,
        Stage.APPLIED,
    ]
    locked = next(
        number
        for number, statement in enumerate(statements)
        if "FROM audit_head" in statement and "FOR UPDATE" in statement
    )
    # The breaker looks in a transaction of its own, which begins with the cluster.
    ends = next(
        (
            number
            for number, each in enumerate(statements)
            if number > locked and "FROM cluster" in each
        ),
        len(statements),
    )
    tables = {
        word
        for statement in statements[locked + 1 : ends]
        for word in re.findall(r"(?:FROM|INTO|UPDATE) (\w+)", statement)
    }
    assert tables <= {"audit", "audit_head"}
