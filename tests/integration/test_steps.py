"""A run as steps: in the order of cause and effect, each with its time and its audit row."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from contract.verdicts import Stage, Verdict
from controller.audit.append import append
from controller.audit.queries.timeline import timeline
from controller.db.engine import Database
from controller.db.models import Rejection, Run
from controller.db.states import RunState
from controller.runs.reports import ReportIntake
from controller.swarm.model import SwarmTask
from controller.swarm.rejections import Rejections
from controller.views.steps import Step, StepKind, steps
from controller.workqueue import requeue
from controller.workqueue.requeue import RequeueRequest
from tests import audit_rows
from tests.fake_clock import START, Clock
from tests.fake_swarm import SHOP, snapshot, swarm_id, task
from tests.reports import believed, device, removal, report
from tests.stored import RESYNC, claim, finish, put

LEAK = 'subnet sandbox join failed for "10.0.1.0/24": error creating vxlan interface: file exists'


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def of_service(name: str, seconds: float, error: str = "") -> SwarmTask:
    return task(
        name, "one", "shop", live=not error, wanted=True, error=error, service="web",
        since=later(seconds), slot=1,
    )  # fmt: skip


def heal(database: Database, clock: Clock) -> UUID:
    """A task is rejected, a person asks for a run, which removes the device, and a task runs again."""
    rejections = Rejections(database, lambda *_: None, clock)
    put(database, snapshot("one", "two"))
    clock.advance(1)
    rejections.record([of_service("t1", 0.5, LEAK)], {SHOP.id: SHOP})
    with database.write() as session:
        request = RequeueRequest("one", "abc", "alice", "leak 4711")
        append(session, requeue.store(session, request, clock.now), clock.now)
    run = claim(database, now=clock.now)[swarm_id("one")].run_id
    clock.advance(2)
    orphan = device(1, Verdict.ORPHAN, removed=True)
    entry = removal(run, 1, orphan.identity).model_copy(update={"at": later(2)})
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=clock)
    told = report(run, devices=[orphan], entries=[entry])
    times = {"started_at": later(1.5), "finished_at": later(2.5)}
    intake.reports([believed(told.model_copy(update=times))])
    clock.advance(3)
    rejections.record([of_service("t2", 5)], {SHOP.id: SHOP})
    rejections.settle([swarm_id("one")], [of_service("t2", 5)])
    return run


def of(database: Database, given: str) -> list[Step]:
    with database.read() as session:
        return [*steps(session, timeline(session, given))]


def test_a_healing_goes_from_the_rejection_to_the_task_that_runs_again(
    database: Database, clock: Clock
) -> None:
    run = heal(database, clock)
    found = of(database, str(run))
    kinds = [step.kind for step in found]
    assert kinds[:5] == [
        StepKind.REJECTED, StepKind.READ, StepKind.REQUEUED, StepKind.SENT, StepKind.BEGAN
    ]  # fmt: skip
    assert set(kinds[5:-3]) == {StepKind.RECORDED}
    assert kinds[-3:] == [StepKind.ENDED, StepKind.STORED, StepKind.RUNNING]
    times = [later(0.5), later(1), later(1), later(1), later(1.5)]
    assert [step.at for step in found[:5]] == times
    assert [step.at for step in found[-3:]] == [later(2.5), later(3), later(5)]
    assert found[-1].seconds == 2
    rows = {step.kind: step.row for step in found if step.row is not None}
    assert rows[StepKind.REQUEUED].stage is Stage.REQUEUED
    assert rows[StepKind.REQUEUED].reason == "leak 4711"
    assert rows[StepKind.SENT].stage is Stage.REQUESTED
    recorded = [step.row.stage for step in found if step.row and step.kind is StepKind.RECORDED]
    assert Stage.APPLIED in recorded
    assert Stage.REQUESTED not in recorded


def test_a_task_that_does_not_run_again_is_missed(database: Database, clock: Clock) -> None:
    run = heal(database, clock)
    with database.write() as session:
        session.execute(update(Rejection).values(running_at=None))
    last = of(database, str(run))[-1]
    assert (last.kind, last.at) == (StepKind.RUNNING, None)
    assert "not been seen running" in last.text


def test_clocks_that_disagree_change_no_order(database: Database, clock: Clock) -> None:
    run = heal(database, clock)
    with database.write() as session:
        session.get_one(Run, run).started_at = START - timedelta(hours=1)
    found = of(database, str(run))
    began = next(step for step in found if step.kind is StepKind.BEGAN)
    assert began.seconds is None
    assert found.index(began) == 4


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (RunState.LOST, "given up: no report came by the deadline"),
        (RunState.FAILED, "report stored: the run failed: no netlink"),
    ],
)
def test_a_run_that_found_nothing(database: Database, state: RunState, text: str) -> None:
    put(database)
    run = claim(database)[swarm_id("one")].run_id
    assert [step.kind for step in of(database, str(run))] == [StepKind.SENT]
    error = "no netlink" if state is RunState.FAILED else None
    with database.write() as session:
        finish(session, run, state, now=later(30), resync=RESYNC, error=error)
    assert [(step.kind, step.text) for step in of(database, str(run))][1:] == [
        (StepKind.STORED, text)
    ]


def test_of_a_run_that_the_history_no_longer_has_the_audit_trail_tells(database: Database) -> None:
    run = uuid4()
    first, second = audit_rows.add(
        database,
        audit_rows.row(run_id=run, stage=Stage.PLANNED),
        audit_rows.row(later(1), run_id=run),
    )
    found = of(database, str(run))
    assert [step.row.id for step in found if step.row] == [first, second]
    assert [step.seconds for step in found] == [None, 1]


def test_a_reason_is_told_once_and_another_again(database: Database) -> None:
    run, dead = uuid4(), "Docker's, and proved dead (rejected): task t1 was rejected"
    stages = [
        (Stage.VERDICT_CHANGED, f"was settling, now orphan/blocking: {dead}"),
        (Stage.DETECTED, dead),
        (Stage.PLANNED, f"about to be removed: {dead}"),
        (Stage.FAILED, "EBUSY"),
    ]
    rows = [
        audit_rows.row(later(0.1 * i), run_id=run, stage=stage, reason=reason)
        for i, (stage, reason) in enumerate(stages)
    ]
    other = audit_rows.row(later(1), run_id=run, stage=Stage.DETECTED, reason=dead, ifindex=8)
    last = audit_rows.row(later(2), run_id=run, stage=Stage.VERIFIED, reason="a second look shows")
    audit_rows.add(database, *rows, other, last)
    of_device = "vx-001001-shopz in host, "
    assert [step.text for step in of(database, str(run))] == [
        f"{of_device}verdict changed: was settling, now orphan/blocking: {dead}",
        f"{of_device}found to be an orphan",
        f"{of_device}removal written to the journal",
        f"{of_device}not removed: the kernel refused: EBUSY",
        f"{of_device}found to be an orphan: {dead}",
        f"{of_device}verified: gone at a second look",
    ]
