"""A run as steps, from Swarm's rejection to "task runs again", each with its time and its audit row."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from contract.verdicts import STAGE_WORDS, Stage
from controller.audit.queries.timeline import Timeline
from controller.db.audit_models import AuditRow
from controller.db.models import Rejection, Requeue, Run
from controller.db.states import RunState, with_claim

MAX_REJECTIONS: Final = 20
_MAX_REQUEUES: Final = 20
_ENDS: Final = {
    RunState.RUNNING: "the run is under way",
    RunState.SUCCEEDED: "report stored: the run succeeded",
    RunState.FAILED: "report stored: the run failed",
    RunState.REFUSED: "report stored: the worker refused the request",
    RunState.LOST: "given up: no report came by the deadline",
}


class StepKind(StrEnum):
    """What a step is, beside the stages of audit rows."""

    REJECTED = "rejected"
    """The node rejected a task, by its clock."""
    READ = "read"
    """The controller read that in the Swarm."""
    REQUEUED = "requeued"
    """A person requested the run."""
    SENT = "sent"
    """The node was claimed, and its worker asked."""
    BEGAN = "began"
    """The worker began, by its node's clock."""
    RECORDED = "recorded"
    """An audit row of the run."""
    ENDED = "ended"
    """The worker finished, by its node's clock."""
    STORED = "stored"
    """The report was stored, or the run was given up."""
    RUNNING = "running"
    """A successor of the rejected task runs, by the clock of its node."""


class Step(NamedTuple):
    """A step of a run.

    Attributes:
        at: its time; None: not known.
        text: what happened, as a phrase.
        row: the audit row that records it; None: none does.
        seconds: since the step before; None: not known.
    """

    at: datetime | None
    kind: StepKind
    text: str
    row: AuditRow | None = None
    seconds: float | None = None


def steps(session: Session, timeline: Timeline) -> Sequence[Step]:
    """Return the steps of a run in the order of cause and effect: clocks of nodes may differ.

    Without a run, or if the run history no longer has it, the steps are those of the audit trail.
    """
    run = timeline.run
    requested = [row for row in timeline.rows if row.stage is Stage.REQUESTED]
    others = [row for row in timeline.rows if row.stage is not Stage.REQUESTED]
    found = [*_before(session, run, timeline.rows)]
    if run is None:
        found += _recorded(timeline.rows)
    else:
        sent = "the node was claimed, and its worker asked"
        found.append(Step(run.requested_at, StepKind.SENT, sent, next(iter(requested), None)))
        if run.started_at is not None:
            found.append(Step(run.started_at, StepKind.BEGAN, "the worker began to look"))
        found += _recorded(others)
        found += _after(session, run)
    return [*_timed(found)]


def _recorded(rows: Sequence[AuditRow]) -> Iterator[Step]:
    """Yield the audit rows; a reason that a step about the same device told before is not told again."""
    given: dict[tuple[str | None, int | None], str] = {}
    for row in rows:
        device = "" if row.name is None else f"{row.name} in {row.netns}, "
        words, of = f"{device}{STAGE_WORDS[row.stage]}", (row.netns, row.ifindex)
        # The second look's reason says what its stage does; a plan's ends with what was found.
        known = given.get(of)
        is_known = row.stage is Stage.VERIFIED or (known is not None and row.reason.endswith(known))
        yield Step(row.at, StepKind.RECORDED, words if is_known else f"{words}: {row.reason}", row)
        if row.name is not None and not is_known:
            given[of] = (
                row.reason.partition(": ")[2] if row.stage is Stage.VERDICT_CHANGED else row.reason
            )


def _before(session: Session, run: Run | None, rows: Sequence[AuditRow]) -> Iterator[Step]:
    """Yield what led to a run: rejected tasks, and requests of people."""
    if run is None:
        return
    vnis = {row.vni for row in rows if row.vni is not None}
    for rejection in _rejections(session, run, vnis):
        task = f"task {rejection.task_id} was rejected: {rejection.error}"
        yield Step(rejection.at, StepKind.REJECTED, task)
        read = f"the controller read that task {rejection.task_id} was rejected"
        yield Step(rejection.seen_at, StepKind.READ, read)
    query = (
        select(Requeue)
        .where(Requeue.node_id == run.node_id, Requeue.run_id == run.id)
        .order_by(Requeue.requested_at)
    )
    for requeue in session.scalars(query.limit(_MAX_REQUEUES)):
        row = requeued_row(session, requeue)
        why = requeue.reason or "no reason was given"
        who = with_claim(requeue.actor, requeue.claimed_name)
        yield Step(requeue.requested_at, StepKind.REQUEUED, f"requeued by {who}: {why}", row)


def requeued_row(session: Session, requeue: Requeue) -> AuditRow | None:
    """Return the audit row of a requeue; None: it was pruned."""
    # Both have the time of the same call of the clock.
    query = select(AuditRow).where(
        AuditRow.node_id == requeue.node_id,
        AuditRow.stage == Stage.REQUEUED,
        AuditRow.at == requeue.requested_at,
        AuditRow.actor == requeue.actor,
    )
    return session.scalar(query.order_by(AuditRow.id).limit(1))


def _rejections(session: Session, run: Run, vnis: Collection[int]) -> Sequence[Rejection]:
    """Return the rejections whose device a run removed, or that were open while it met these VNIs."""
    until = run.finished_at or run.closed_at
    met = [
        Rejection.vni.in_(vnis),
        or_(Rejection.settled_at.is_(None), Rejection.settled_at >= run.requested_at),
        *([] if until is None else [Rejection.at <= until]),
    ]
    query = select(Rejection).where(
        Rejection.node_id == run.node_id, or_(Rejection.run_id == run.id, and_(*met))
    )
    oldest_first = query.order_by(Rejection.at, Rejection.task_id)
    return session.scalars(oldest_first.limit(MAX_REJECTIONS)).all()


def _after(session: Session, run: Run) -> Iterator[Step]:
    """Yield how a run ended, and that the tasks run whose device it removed."""
    if run.finished_at is not None:
        counts = f"devices seen: {run.devices}, orphans: {run.orphans}, removed: {run.removed}"
        yield Step(run.finished_at, StepKind.ENDED, f"the worker finished: {counts}")
    if run.closed_at is not None:
        text = _ENDS[run.state]
        yield Step(run.closed_at, StepKind.STORED, f"{text}: {run.error}" if run.error else text)
    removed = Rejection.node_id == run.node_id, Rejection.run_id == run.id
    for rejection in session.scalars(
        select(Rejection).where(*removed).order_by(Rejection.at).limit(MAX_REJECTIONS)
    ):
        of = f"a successor of task {rejection.task_id}"
        if rejection.running_at is not None:
            yield Step(rejection.running_at, StepKind.RUNNING, f"{of} runs")
        else:
            yield Step(None, StepKind.RUNNING, f"{of} has not been seen running yet")


def _timed(found: Sequence[Step]) -> Iterator[Step]:
    """Yield the steps with the seconds since the one before; clocks that disagree give none."""
    last: datetime | None = None
    for step in found:
        seconds = None if last is None or step.at is None else (step.at - last).total_seconds()
        yield step._replace(seconds=seconds if seconds is None or seconds >= 0 else None)
        last = step.at or last
