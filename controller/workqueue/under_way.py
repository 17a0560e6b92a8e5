"""Runs that are under way, and how they end: with a report, lost by their deadline, or undone.

The rules are those of `queue`.
"""

import random
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import and_, bindparam, func, or_, select, update
from sqlalchemy.orm import Session, load_only

from controller.db import bulk
from controller.db.models import Cluster, DueNode, Node, Requeue, Run
from controller.db.states import RunState
from controller.db.types import Base
from controller.workqueue.priorities import Priority
from controller.workqueue.queue import backoff, merge

LATE: Final = timedelta(minutes=1)
"""So long after its run was given up a report is still of use: its worker was slow, and not away."""
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_MAX_EXPIRED: Final = 200
_DUE: Final = Base.metadata.tables[DueNode.__tablename__]
_DEADLINE: Final = select(func.min(_DUE.c.run_deadline)).where(_DUE.c.run_id.is_not(None))
_OPEN: Final = (
    select(Node, DueNode, Run)
    .select_from(Node)
    .join(DueNode, DueNode.node_id == Node.id)
    .join(Run, Run.node_id == Node.id)
    .where(
        Run.id.in_(bindparam("run_ids", expanding=True)),
        or_(
            Run.state == RunState.RUNNING,
            # Given up a moment ago, and nothing newer is known of its node.
            and_(
                Run.state == RunState.LOST,
                Run.id == Node.last_run_id,
                Run.closed_at > bindparam("given_up_after"),
            ),
        ),
    )
    .order_by(Node.id)
    .options(
        # Reading all columns takes as long as everything else of this statement; what is not named here is
        # read when it is looked at.
        load_only(
            Node.hostname, Node.attempted_generation, Node.converged_generation, Node.worker_version,
            Node.worker_seen_at, Node.max_removals, Node.journal_id, Node.journal_through,
            Node.controller_keys, Node.last_error, Node.limitations, Node.missing, Node.last_run_state,
            Node.audit_left_out, Node.audit_spent, Node.audit_spent_at, Node.paused_at, Node.label_ignore,
        ),
    )
    # Without the keys: neither this nor a transaction that inserts a run of a node waits for the other.
    .with_for_update(key_share=True)
    .execution_options(populate_existing=True, **bulk.UNPREPARED)
)  # fmt: skip


class OpenRun(NamedTuple):
    """A run that is not closed, with its rows, all locked."""

    node: Node
    due: DueNode
    run: Run


def open_runs(
    session: Session, run_ids: Collection[UUID], *, given_up_after: datetime = _NEVER
) -> dict[UUID, OpenRun]:
    """The open ones of these runs, locked and read again.

    With those that were given up after that time, and are the last of their nodes to have ended.
    """
    rows = session.execute(_OPEN, {"run_ids": run_ids, "given_up_after": given_up_after})
    return {run.id: OpenRun(node, row, run) for node, row, run in rows}


def close(
    found: OpenRun,
    state: RunState,
    *,
    now: datetime,
    resync: timedelta,
    recheck: timedelta | None = None,
    error: str | None = None,
    left_alone: bool = False,
) -> None:
    """Close an open run, and set when its node is due again.

    Args:
        left_alone: whether the node is paused: then its worker may be away, and that is no failure.

    One that was given up before made its node due then, with a pause that grows from loss to loss: a node
    that is too slow is not to be kept busy.
    """
    node, row, run = found
    run.state, run.closed_at, run.error = state, now, error
    node.last_run_id, node.last_run_state, node.last_run_at = run.id, state, now
    if row.run_id != run.id:
        return
    row.run_id = row.run_deadline = None
    if state is RunState.SUCCEEDED:
        row.failures = 0
        # A worker may wait for longer than that; nothing puts the resync off.
        if recheck is not None and recheck < resync:
            merge(row, at=now + recheck, priority=Priority.RETRY, reasons=["recheck"])
    else:
        row.failures += not left_alone
        how = "was lost" if state is RunState.LOST else state
        at = now + backoff(row.failures)
        merge(row, at=at, priority=Priority.RETRY, reasons=[f"the last run {how}"])
    if row.due_at is None:
        at = now + resync * random.uniform(0.9, 1.1)  # noqa: S311 -- jitter, no secret
        merge(row, at=at, priority=Priority.RESYNC, reasons=["resync"])


def unclaim(session: Session, run_id: UUID, *, now: datetime) -> None:
    """Undo a claim whose request could not be sent, and leave no run in the history.

    Otherwise an outage of the broker would fill that with one run per node and second.
    """
    found = open_runs(session, [run_id]).get(run_id)
    if found is None:
        return
    _node, row, run = found
    if row.run_id == run_id:
        row.run_id = row.run_deadline = None
        row.despite_pause = True  # If it is paused: its worker has not heard of that.
    # It has waited since then, and not since this attempt.
    merge(row, at=run.due_at or now, priority=Priority(run.priority), reasons=run.reasons)
    session.execute(update(Requeue).where(Requeue.run_id == run_id).values(run_id=None))
    session.delete(run)


def expire(session: Session, *, now: datetime, resync: timedelta) -> Collection[UUID]:
    """Close runs without a report by their deadline, a batch at a time; return their ids."""
    late = session.scalars(
        select(DueNode.run_id)
        .where(DueNode.run_id.is_not(None), DueNode.run_deadline < now)
        .order_by(DueNode.node_id)
        .limit(_MAX_EXPIRED)
    ).all()
    found = open_runs(session, [run_id for run_id in late if run_id is not None])
    all_paused = bool(found) and session.scalar(select(Cluster.paused_at)) is not None
    for run in found.values():
        close(
            run,
            RunState.LOST,
            now=now,
            resync=resync,
            error="no report came by the deadline: the worker, its node or the broker is away",
            left_alone=all_paused or run.node.paused_at is not None or run.node.label_ignore,
        )
    return found.keys()


def next_deadline(session: Session) -> datetime | None:
    """The next time at which `expire` finds a run."""
    found: datetime | None = session.scalar(_DEADLINE)
    return found
