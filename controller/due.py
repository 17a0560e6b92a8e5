"""Due nodes: when each node is next looked at, and why. The workqueue, in rows.

The invariant is client-go's (util/workqueue): a node is *asked for* (due_at is set), *running*
(run_id is set), both, or neither. Asking for a node that is running makes exactly one more run.
Asking twice merges: the earliest time, the highest priority, both reasons. Everything survives a
restart, because there is nothing else than these rows.

Who goes first: a node has the rank `due_at - priority * AGEING`, and the lowest goes. So the higher
priority goes first, of two alike the one that is due for longer, and a node that waits climbs one
priority a minute: a resync that has waited for four minutes goes before a manual request of this
moment, and nothing starves.

Who does not go: nodes that the Swarm no longer lists or says are down, and nodes that are paused
(by a person or a label, alone or with the whole cluster). What was asked for stays, merged as ever,
so such a node gets one run when it is back.

Locks are taken in one order, so that no two transactions wait for each other: a node's row, then its
run and its due row; several due rows in the order of their nodes.
"""

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Float,
    Row,
    Uuid,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from controller.models import Cluster, DueNode, Node, Requeue, Run
from controller.states import CONTROLLER, Priority, RunState

MAX_BACKOFF: Final = timedelta(seconds=120)
AGEING: Final = timedelta(minutes=1)
"""How long a node waits until it has climbed one priority."""
_FIRST_BACKOFF: Final = timedelta(seconds=1)
_MOST_REASONS: Final = 10
_MOST_EXPIRED: Final = 200
_MOST_ACTORS: Final = 5


@dataclass(frozen=True, slots=True)
class Claim:
    """A node that was due and is now running.

    Attributes:
        leftover: whether a request of a run that was given up may still wait in the node's queue.
    """

    node_id: str
    run_id: UUID
    priority: Priority
    reasons: tuple[str, ...]
    deadline: datetime
    leftover: bool = False


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
        .order_by(DueNode.node_id)
        .with_for_update()
        # What this session read before it had the lock may be of before a claim.
        .execution_options(populate_existing=True)
    )
    for row in rows:
        count += 1
        _merge(row, at=at, priority=priority, reasons=[reason])
    return count


def claim(
    session: Session,
    *,
    now: datetime,
    limit: int,
    timeout: timedelta,
    least: Priority = Priority.RESYNC,
    most: Priority = Priority.MANUAL,
) -> list[Claim]:
    """Take due nodes of such a priority, the first by rank, and start a run of each.

    Two controllers that claim at once get different nodes (SKIP LOCKED; SQLite has one writer).
    """
    # A CTE is picked once; a plain subquery may be run again for each row, and take more.
    picked = (
        select(DueNode.node_id)
        .join(Node, Node.id == DueNode.node_id)
        .where(DueNode.due_at <= now, *_may_run(least, most))
        .order_by(_Rank(DueNode.due_at, DueNode.priority), DueNode.due_at, DueNode.node_id)
        .limit(limit)
        .with_for_update(of=DueNode, skip_locked=True)
        .cte("picked")
    )
    generation = select(Node.generation).where(Node.id == DueNode.node_id).scalar_subquery()
    rows = session.execute(
        update(DueNode)
        .where(DueNode.node_id.in_(select(picked.c.node_id)))
        .values(
            run_id=_NewUuid(),
            run_deadline=now + timeout,
            # SQLite returns what is new: so what was asked for is kept beside it.
            run_priority=DueNode.priority,
            run_reasons=DueNode.reasons,
            due_at=None,
            priority=Priority.RESYNC,
            reasons=[],
        )
        .returning(
            DueNode.node_id,
            DueNode.run_id,
            DueNode.run_priority,
            DueNode.run_reasons,
            DueNode.failures,
            generation.label("generation"),
        )
        .execution_options(synchronize_session=False)
    ).all()
    if not rows:
        return []
    actors = _answer_requeues(session, {row.node_id: row.run_id for row in rows})
    session.execute(insert(Run), [_new_run(row, actors, now, now + timeout) for row in rows])
    claims = [
        Claim(
            row.node_id,
            row.run_id,
            Priority(row.run_priority),
            tuple(row.run_reasons),
            now + timeout,
            # A manual request forgets the failures, and not what they left behind.
            leftover=row.failures > 0 or row.run_priority == Priority.MANUAL,
        )
        for row in rows
    ]
    return sorted(claims, key=lambda each: -each.priority)


class UnderWay(NamedTuple):
    """A run that is not closed, with its rows, all locked."""

    node: Node
    due: DueNode
    run: Run


def under_way(session: Session, run_ids: Collection[UUID]) -> dict[UUID, UnderWay]:
    """Those of these runs that are not closed; what this session knew of them is read again."""
    rows = session.execute(
        select(Node, DueNode, Run)
        .select_from(Node)
        .join(DueNode, DueNode.node_id == Node.id)
        .join(Run, Run.node_id == Node.id)
        .where(Run.id.in_(run_ids), Run.state == RunState.RUNNING)
        .order_by(Node.id)
        # Without the keys: whoever inserts a run of this node need not wait for us, nor we for them.
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return {run.id: UnderWay(node, row, run) for node, row, run in rows}


def close(
    found: UnderWay,
    state: RunState,
    *,
    now: datetime,
    resync: timedelta,
    recheck: timedelta | None = None,
    error: str | None = None,
) -> None:
    """Close a run that is under way and decide when its node is due again."""
    node, row, run = found
    run.state, run.closed_at, run.error = state, now, error
    node.last_run_id, node.last_run_state, node.last_run_at = run.id, state, now
    if row.run_id != run.id:
        return
    row.run_id = row.run_deadline = None
    if state is RunState.SUCCEEDED:
        row.failures = 0
        if recheck is not None:
            _merge(row, at=now + recheck, priority=Priority.RETRY, reasons=["recheck"])
    else:
        row.failures += 1
        how = "was lost" if state is RunState.LOST else state
        at = now + backoff(row.failures)
        _merge(row, at=at, priority=Priority.RETRY, reasons=[f"the last run {how}"])
    if row.due_at is None:
        at = now + resync * random.uniform(0.9, 1.1)  # noqa: S311 -- jitter, no secret
        _merge(row, at=at, priority=Priority.RESYNC, reasons=["resync"])


def give_back(session: Session, run_id: UUID, *, now: datetime) -> None:
    """Undo a claim whose request could not be sent: ask again for just what was asked for.

    It was the broker's fault, not the node's, and there was no run: it leaves no line in the history,
    or an outage of the broker would fill that with one line a node and second.
    """
    found = under_way(session, [run_id]).get(run_id)
    if found is None:
        return
    _node, row, run = found
    if row.run_id == run_id:
        row.run_id = row.run_deadline = None
    _merge(row, at=now, priority=Priority(run.priority), reasons=run.reasons)
    session.execute(update(Requeue).where(Requeue.run_id == run_id).values(run_id=None))
    session.delete(run)


def expire(session: Session, *, now: datetime, resync: timedelta) -> int:
    """Close runs whose report did not come by their deadline, some at a time; return how many."""
    late = session.scalars(
        select(DueNode.run_id)
        .where(DueNode.run_id.is_not(None), DueNode.run_deadline < now)
        .order_by(DueNode.node_id)
        .limit(_MOST_EXPIRED)
    ).all()
    found = under_way(session, [run_id for run_id in late if run_id is not None])
    for each in found.values():
        close(
            each,
            RunState.LOST,
            now=now,
            resync=resync,
            error="no report came by the deadline: the worker, its node or the broker is away",
        )
    return len(found)


def next_time(
    session: Session, *, least: Priority = Priority.RESYNC, most: Priority = Priority.MANUAL
) -> datetime | None:
    """When `claim` with these priorities will next have something to do."""
    return session.scalar(
        select(func.min(DueNode.due_at))
        .join(Node, Node.id == DueNode.node_id)
        .where(*_may_run(least, most))
    )


def next_deadline(session: Session) -> datetime | None:
    """When `expire` will next have something to do."""
    return session.scalar(select(func.min(DueNode.run_deadline)).where(DueNode.run_id.is_not(None)))


def backoff(failures: int) -> timedelta:
    """How long to wait after so many failures in a row: doubling, capped, with jitter."""
    longest: timedelta = min(_FIRST_BACKOFF * 2 ** min(failures - 1, 16), MAX_BACKOFF)
    return timedelta(seconds=longest.total_seconds() * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter, no secret


def waiting(session: Session, *, now: datetime) -> tuple[int, datetime | None]:
    """How many nodes are due and could run, and since when the first of them is due."""
    count, oldest = session.execute(
        select(func.count(), func.min(DueNode.due_at))
        .join(Node, Node.id == DueNode.node_id)
        .where(DueNode.due_at <= now, *_may_run(Priority.RESYNC, Priority.MANUAL))
    ).one()
    return count, oldest


def _may_run(least: Priority, most: Priority) -> Sequence[ColumnElement[bool]]:
    """What must be true of a due node and its node for a claim, apart from the time."""
    return (
        DueNode.run_id.is_(None),
        DueNode.priority.between(least, most),
        Node.gone_at.is_(None),
        Node.state != "down",
        Node.paused_at.is_(None),
        Node.label_ignore.is_(False),
        ~exists().where(Cluster.paused_at.is_not(None)),
    )


def _merge(row: DueNode, *, at: datetime, priority: Priority, reasons: Sequence[str]) -> None:
    """Ask for a run of a node whose row is locked."""
    if row.due_at is None:
        row.due_at, row.priority, row.reasons = at, priority, list(reasons)
    else:
        row.due_at = min(row.due_at, at)
        row.priority = max(row.priority, priority)
        new = [reason for reason in reasons if reason not in row.reasons]
        # What a person says is not crowded out by what was there before.
        all_ = [*new, *row.reasons] if priority is Priority.MANUAL else [*row.reasons, *new]
        row.reasons = all_[:_MOST_REASONS]
    if priority is Priority.MANUAL:
        row.failures = 0


def _answer_requeues(session: Session, runs: Mapping[str, UUID]) -> dict[str, str]:
    """Note which run answers what people asked for; return node id to who they are."""
    asked = session.execute(
        update(Requeue)
        .where(
            Requeue.run_id.is_(None),
            Requeue.node_id.in_(runs),
            DueNode.node_id == Requeue.node_id,
        )
        .values(run_id=DueNode.run_id)
        .returning(Requeue.node_id, Requeue.requested_at, Requeue.actor)
        .execution_options(synchronize_session=False)
    )
    names: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for row in sorted(asked, key=lambda each: (each.requested_at, each.actor)):
        names[row.node_id][row.actor] = None
    return {node_id: _together(list(each)) for node_id, each in names.items()}


def _together(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_ACTORS} more" if len(names) > _MOST_ACTORS else ""
    return ", ".join(names[:_MOST_ACTORS]) + more


def _new_run(
    row: Row[Any], actors: Mapping[str, str], now: datetime, deadline: datetime
) -> dict[str, Any]:
    return {
        "id": row.run_id,
        "node_id": row.node_id,
        "state": RunState.RUNNING,
        "priority": row.run_priority,
        "reasons": row.run_reasons,
        "actor": actors.get(row.node_id, CONTROLLER),
        "generation": row.generation,
        "requested_at": now,
        "deadline": deadline,
    }


class _NewUuid(FunctionElement[UUID]):
    """A fresh UUID for each row."""

    type = Uuid()
    inherit_cache = True


@compiles(_NewUuid, "postgresql")
def _new_uuid_on_postgresql(_element: _NewUuid, _compiler: SQLCompiler, **_: Any) -> str:
    return "gen_random_uuid()"


@compiles(_NewUuid, "sqlite")
def _new_uuid_on_sqlite(_element: _NewUuid, _compiler: SQLCompiler, **_: Any) -> str:
    # Version 4 (RFC 9562, section 5.4), as PostgreSQL's and Python's are.
    return (
        "lower(hex(randomblob(6)) || '4' || substr(hex(randomblob(2)), 2)"
        " || substr('89AB', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2)"
        " || hex(randomblob(6)))"
    )


class _Rank(FunctionElement[float]):
    """The rank of a due node, in seconds, of its `due_at` and its `priority`."""

    type = Float()
    inherit_cache = True


@compiles(_Rank, "postgresql")
def _rank_on_postgresql(element: _Rank, compiler: SQLCompiler, **options: Any) -> str:
    due_at, priority = (compiler.process(each, **options) for each in element.clauses)
    return f"extract(epoch FROM {due_at}) - {priority} * {AGEING.total_seconds()}"


@compiles(_Rank, "sqlite")
def _rank_on_sqlite(element: _Rank, compiler: SQLCompiler, **options: Any) -> str:
    due_at, priority = (compiler.process(each, **options) for each in element.clauses)
    return f"julianday({due_at}) * 86400 - {priority} * {AGEING.total_seconds()}"
