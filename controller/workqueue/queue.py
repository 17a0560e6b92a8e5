"""The workqueue, in rows: when a node is due, why, and its run in progress.

The invariant is client-go's (util/workqueue): a node is *asked for* (due_at is set), *running*
(run_id is set), both, or neither. Asking for a node that is running makes exactly one more run.
Asking twice merges: the earliest time, the highest priority, both reasons. Everything survives a
restart, because there is nothing else than these rows.

Who goes first: a node has the rank `due_at - priority * AGEING`, and the lowest goes. So the higher
priority goes first, of two alike the one that is due for longer, and a node that waits climbs one
priority a minute: a resync that has waited for four minutes goes before a manual request of this
moment, and nothing starves.

Who does not go: nodes that the Swarm no longer lists or says are down, and nodes that are paused
(by a person or a label, alone or with the whole cluster), but for one run that tells the worker of the
pause. What was asked for stays, merged as ever,
so such a node gets one run when it is back.

Locks are taken in one order, so that no two transactions wait for each other: a node's row, then its
run and its due row; several due rows in the order of their nodes.

How a run ends is in `under_way`.
"""

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Update,
    and_,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from controller.db import bulk
from controller.db.models import Cluster, DueNode, Node, Requeue, Run
from controller.db.sql_functions import Epoch, NewUuid
from controller.db.states import CONTROLLER, RunState
from controller.db.types import Base
from controller.workqueue.priorities import Priority

MAX_BACKOFF: Final = timedelta(seconds=120)
AGEING: Final = timedelta(minutes=1)
"""Waiting time that counts as one priority."""
_CLUSTER: Final = Base.metadata.tables[Cluster.__tablename__]
_DUE: Final = Base.metadata.tables[DueNode.__tablename__]
_NODES: Final = Base.metadata.tables[Node.__tablename__]
_REQUEUES: Final = Base.metadata.tables[Requeue.__tablename__]
_RUNS: Final = Base.metadata.tables[Run.__tablename__]
_FIRST_BACKOFF: Final = timedelta(seconds=1)
_MAX_REASONS: Final = 10
_MAX_ACTORS: Final = 5


def _may_run(lowest: Priority, highest: Priority) -> Sequence[ColumnElement[bool]]:
    """Conditions of a claim, apart from the time."""
    # Few nodes are away or paused: to look each up that is due takes longer than to know these.
    away = select(_NODES.c.id).where(or_(_NODES.c.gone_at.is_not(None), _NODES.c.state == "down"))
    paused = select(_NODES.c.id).where(or_(_NODES.c.paused_at.is_not(None), _NODES.c.label_ignore))
    return (
        _DUE.c.run_id.is_(None),
        # In plain figures: so that a database sees that its index of what is urgent will do.
        _DUE.c.priority >= literal_column(f"{lowest:d}"),
        _DUE.c.priority <= literal_column(f"{highest:d}"),
        _DUE.c.node_id.not_in(away),
        or_(
            _DUE.c.despite_pause,
            and_(
                _DUE.c.node_id.not_in(paused),
                # Also says that the Swarm has been read once: before, nobody knows what should be there.
                exists().where(_CLUSTER.c.paused_at.is_(None)),
            ),
        ),
    )


# Statements are made once: a person waits for some, and making them takes longer than carrying them out.
@cache
def _claim(lowest: Priority, highest: Priority) -> Update:
    # A CTE is picked once; a plain subquery may be run again for each row, and take more.
    rank = Epoch(_DUE.c.due_at) - _DUE.c.priority * AGEING.total_seconds()
    picked = (
        select(_DUE.c.node_id)
        .where(_DUE.c.due_at <= bindparam("now"), *_may_run(lowest, highest))
        .order_by(rank, _DUE.c.due_at)
        .limit(bindparam("limit"))
        .with_for_update(of=_DUE, skip_locked=True)
        .cte("picked")
    )
    of_node = _NODES.c.id == _DUE.c.node_id
    generation = select(_NODES.c.generation).where(of_node).scalar_subquery()
    last = select(_NODES.c.last_run_state).where(of_node).scalar_subquery()
    return (
        update(_DUE)
        .where(_DUE.c.node_id.in_(select(picked.c.node_id)))
        .values(
            run_id=NewUuid(),
            run_deadline=bindparam("deadline"),
            # SQLite returns what is new: so what was asked for is kept beside it.
            run_priority=_DUE.c.priority,
            run_reasons=_DUE.c.reasons,
            run_due_at=_DUE.c.due_at,
            due_at=None,
            priority=Priority.RESYNC,
            reasons=[],
            despite_pause=False,
        )
        .returning(
            _DUE.c.node_id,
            _DUE.c.run_id,
            _DUE.c.run_priority,
            _DUE.c.run_reasons,
            _DUE.c.run_due_at,
            generation.label("generation"),
            last.label("last_run_state"),
        )
    )


@cache
def _next(lowest: Priority, highest: Priority) -> Select[datetime | None]:
    return select(func.min(_DUE.c.due_at)).where(*_may_run(lowest, highest))


_ASKED_FOR: Final = (
    select(DueNode)
    .where(DueNode.node_id.in_(bindparam("nodes", expanding=True)))
    .order_by(DueNode.node_id)
    .with_for_update()
    # What this session read before it had the lock may be of before a claim.
    .execution_options(populate_existing=True)
)
_ANSWER: Final = (
    update(_REQUEUES)
    .where(
        _REQUEUES.c.run_id.is_(None),
        _REQUEUES.c.node_id.in_(bindparam("nodes", expanding=True)),
        _DUE.c.node_id == _REQUEUES.c.node_id,
    )
    .values(run_id=_DUE.c.run_id)
    .returning(_REQUEUES.c.node_id, _REQUEUES.c.requested_at, _REQUEUES.c.actor)
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A node that was due and is now running."""

    node_id: str
    run_id: UUID
    priority: Priority
    reasons: tuple[str, ...]
    deadline: datetime
    leftover: bool = False
    """Whether the run before was given up: then its request may still wait in the node's queue."""


def request(
    session: Session,
    nodes: Iterable[str],
    *,
    at: datetime,
    priority: Priority,
    reason: str,
    despite_pause: bool = False,
) -> int:
    """Make nodes due; return how many of them exist.

    With `despite_pause` also those that are paused, once: a worker remembers the newest request that it
    heard, and refuses each older one, which somebody may have kept back.

    A manual request also resets the failures: the person knows better.
    """
    count = 0
    for row in session.scalars(_ASKED_FOR, {"nodes": list(nodes)}):
        count += 1
        merge(row, at=at, priority=priority, reasons=[reason])
        row.despite_pause |= despite_pause
    return count


def claim(
    session: Session,
    *,
    now: datetime,
    limit: int,
    timeout: timedelta,
    lowest: Priority = Priority.RESYNC,
    highest: Priority = Priority.MANUAL,
) -> list[Claim]:
    """Claim due nodes of these priorities, the first by rank, and start their runs.

    Simultaneous claims get different nodes (SKIP LOCKED; SQLite has one writer).
    """
    session.flush()  # What is claimed is what is written.
    rows = session.execute(
        _claim(lowest, highest), {"now": now, "limit": limit, "deadline": now + timeout}
    ).all()
    if not rows:
        return []
    # People ask with the highest priority, and merging keeps it.
    by_hand = [row.node_id for row in rows if row.run_priority == Priority.MANUAL]
    actors = _answer_requeues(session, by_hand) if by_hand else {}
    bulk.insert_rows(session, _RUNS, [_new_run(row, actors, now, now + timeout) for row in rows])
    claims = [
        Claim(
            row.node_id,
            row.run_id,
            Priority(row.run_priority),
            tuple(row.run_reasons),
            now + timeout,
            leftover=row.last_run_state is RunState.LOST,
        )
        for row in rows
    ]
    return sorted(claims, key=lambda claimed: -claimed.priority)


class Notify(Protocol):
    """Tells the dispatcher that a node may be due, so that it need not poll."""

    def __call__(self, priority: Priority | None = None, /) -> None:
        """With this priority; None: any."""


def next_time(
    session: Session, *, lowest: Priority = Priority.RESYNC, highest: Priority = Priority.MANUAL
) -> datetime | None:
    """The next time at which `claim` finds a node."""
    return session.scalar(_next(lowest, highest))


def backoff(failures: int) -> timedelta:
    """The pause after so many consecutive failures: doubling, capped, with jitter."""
    longest: timedelta = min(_FIRST_BACKOFF * 2 ** min(failures - 1, 16), MAX_BACKOFF)
    return timedelta(seconds=longest.total_seconds() * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter, no secret


def waiting(session: Session, *, now: datetime) -> tuple[int, datetime | None]:
    """The number of nodes that are due and may run, and the earliest due time."""
    count, oldest = session.execute(
        select(func.count(), func.min(DueNode.due_at))
        .join(Node, Node.id == DueNode.node_id)
        .where(DueNode.due_at <= now, *_may_run(Priority.RESYNC, Priority.MANUAL))
    ).one()
    return count, oldest


def merge(row: DueNode, *, at: datetime, priority: Priority, reasons: Sequence[str]) -> None:
    """Make a node due whose row is locked."""
    if row.due_at is None:
        row.due_at, row.priority, row.reasons = at, priority, list(reasons)
    else:
        row.due_at = min(row.due_at, at)
        row.priority = max(row.priority, priority)
        new = [reason for reason in reasons if reason not in row.reasons]
        # Earlier reasons do not crowd out a person's.
        all_ = [*new, *row.reasons] if priority is Priority.MANUAL else [*row.reasons, *new]
        row.reasons = all_[:_MAX_REASONS]
    if priority is Priority.MANUAL:
        row.failures = 0


def _answer_requeues(session: Session, nodes: Collection[str]) -> dict[str, str]:
    """Link requeues of claimed nodes to their runs; return node id to the actors' names."""
    asked = session.execute(_ANSWER, {"nodes": nodes})
    names: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for row in sorted(asked, key=lambda row: (row.requested_at, row.actor)):
        names[row.node_id][row.actor] = None
    return {node_id: _together(list(actors)) for node_id, actors in names.items()}


def _together(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_ACTORS} more" if len(names) > _MAX_ACTORS else ""
    return ", ".join(names[:_MAX_ACTORS]) + more


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
        "due_at": row.run_due_at,
        "requested_at": now,
        "deadline": deadline,
    }
