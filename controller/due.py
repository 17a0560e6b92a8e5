"""Due nodes: when each node is next looked at, and why. The workqueue, in rows.

The invariant is client-go's (util/workqueue): a node is *asked for* (due_at is set), *running*
(run_id is set), both, or neither. Asking for a node that is running makes exactly one more run.
Asking twice merges: the earliest time, the highest priority, both reasons. Everything survives a
restart, because there is nothing else than these rows.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.models import DueNode, Node, Run
from controller.states import Priority, RunState

MAX_BACKOFF: Final = timedelta(seconds=120)
_FIRST_BACKOFF: Final = timedelta(seconds=1)
_MOST_REASONS: Final = 10
_MOST_EXPIRED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A node that was due and is now running."""

    node_id: str
    run_id: UUID
    priority: Priority
    reasons: tuple[str, ...]
    deadline: datetime


def request(
    session: Session, nodes: Iterable[str], *, at: datetime, priority: Priority, reason: str
) -> int:
    """Ask for runs of nodes; return how many of these nodes there are.

    A manual request also forgets the failures: the person knows better.
    """
    count = 0
    rows = session.scalars(
        select(DueNode)
        .where(DueNode.node_id.in_(list(nodes)))
        .with_for_update()
        # What this session read before it had the lock may be of before a claim.
        .execution_options(populate_existing=True)
    )
    for row in rows:
        count += 1
        if row.due_at is None:
            row.due_at, row.priority, row.reasons = at, priority, [reason]
        else:
            row.due_at = min(row.due_at, at)
            row.priority = max(row.priority, priority)
            if reason not in row.reasons and len(row.reasons) < _MOST_REASONS:
                row.reasons = [*row.reasons, reason]
        if priority is Priority.MANUAL:
            row.failures = 0
    return count


def claim(session: Session, *, now: datetime, limit: int, timeout: timedelta) -> list[Claim]:
    """Take due nodes, the most urgent first, and start a run of each.

    Two controllers that claim at once get different nodes (SKIP LOCKED; SQLite has one writer).
    """
    rows = session.execute(
        select(DueNode, Node.generation)
        .join(Node, Node.id == DueNode.node_id)
        .where(DueNode.run_id.is_(None), DueNode.due_at <= now, Node.gone_at.is_(None))
        .order_by(DueNode.priority.desc(), DueNode.due_at)
        .limit(limit)
        .with_for_update(of=DueNode, skip_locked=True)
    ).all()
    claims = []
    for row, generation in rows:
        claimed = Claim(
            row.node_id, uuid4(), Priority(row.priority), tuple(row.reasons), now + timeout
        )
        claims.append(claimed)
        session.add(
            Run(
                id=claimed.run_id,
                node_id=row.node_id,
                state=RunState.RUNNING,
                priority=row.priority,
                reasons=list(row.reasons),
                generation=generation,
                requested_at=now,
                deadline=claimed.deadline,
            )
        )
        row.run_id, row.run_deadline = claimed.run_id, claimed.deadline
        row.due_at, row.priority, row.reasons = None, Priority.RESYNC, []
    return claims


def finish(
    session: Session,
    run_id: UUID,
    state: RunState,
    *,
    now: datetime,
    resync: timedelta,
    recheck: timedelta | None = None,
    error: str | None = None,
) -> Run | None:
    """Close a run and decide when its node is due again; None if the run is not under way (any more).

    A second report of one run, or one that comes after its deadline, closes nothing.
    """
    run = session.get(Run, run_id, with_for_update=True)
    if run is None or run.state is not RunState.RUNNING:
        return None
    run.state, run.closed_at, run.error = state, now, error
    row = session.get_one(DueNode, run.node_id, with_for_update=True)
    if row.run_id != run_id:
        return run
    row.run_id = row.run_deadline = None
    if state is RunState.SUCCEEDED:
        row.failures = 0
        if recheck is not None:
            request(
                session, [run.node_id], at=now + recheck, priority=Priority.RETRY, reason="recheck"
            )
    else:
        row.failures += 1
        request(
            session,
            [run.node_id],
            at=now + backoff(row.failures),
            priority=Priority.RETRY,
            reason=f"the last run {'was lost' if state is RunState.LOST else state}",
        )
    if row.due_at is None:
        request(
            session,
            [run.node_id],
            at=now + resync * random.uniform(0.9, 1.1),  # noqa: S311 -- jitter, no secret
            priority=Priority.RESYNC,
            reason="resync",
        )
    return run


def give_back(session: Session, run_id: UUID, *, now: datetime) -> None:
    """Undo a claim whose request could not be sent: ask again for just what was asked for.

    It was the broker's fault, not the node's, and there was no run: it leaves no line in the history,
    or an outage of the broker would fill that with one line a node and second.
    """
    run = session.get(Run, run_id, with_for_update=True)
    if run is None or run.state is not RunState.RUNNING:
        return
    row = session.get_one(DueNode, run.node_id, with_for_update=True)
    if row.run_id == run_id:
        row.run_id = row.run_deadline = None
    for reason in run.reasons:
        request(session, [run.node_id], at=now, priority=Priority(run.priority), reason=reason)
    session.delete(run)


def expire(session: Session, *, now: datetime, resync: timedelta) -> int:
    """Close runs whose report did not come by their deadline; return how many."""
    late = session.scalars(
        select(DueNode.run_id)
        .where(DueNode.run_id.is_not(None), DueNode.run_deadline < now)
        .limit(_MOST_EXPIRED)
    ).all()
    for run_id in late:
        if run_id is not None:
            finish(
                session,
                run_id,
                RunState.LOST,
                now=now,
                resync=resync,
                error="no report came by the deadline: the worker, its node or the broker is away",
            )
    return len(late)


def next_time(session: Session) -> datetime | None:
    """When `claim` or `expire` will next have something to do."""
    due_at = session.scalar(
        select(func.min(DueNode.due_at))
        .join(Node, Node.id == DueNode.node_id)
        .where(DueNode.run_id.is_(None), Node.gone_at.is_(None))
    )
    deadline = session.scalar(
        select(func.min(DueNode.run_deadline)).where(DueNode.run_id.is_not(None))
    )
    return min((each for each in (due_at, deadline) if each is not None), default=None)


def backoff(failures: int) -> timedelta:
    """How long to wait after so many failures in a row: doubling, capped, with jitter."""
    longest: timedelta = min(_FIRST_BACKOFF * 2 ** min(failures - 1, 16), MAX_BACKOFF)
    return timedelta(seconds=longest.total_seconds() * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter, no secret
