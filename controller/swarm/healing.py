"""How long healing takes: from a rejection to the removal, and from there to a task that runs again.

All three times are of the node's clock: its dockerd dates the rejection and the task, its worker the removal.
So no other machine's clock counts, unless Swarm starts the task on another node.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controller.db.engine import Database
from controller.db.models import HealingTime, Rejection
from controller.swarm.model import SwarmTask

BUCKETS: Final = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, math.inf)
"""Upper bounds in seconds. Swarm starts a rejected task again after some 0.3 s, and then after 5 s each."""

_AWAITED: Final = timedelta(hours=1)
"""For a task that runs again. A later one has another cause: somebody deployed the service."""
_MAX_AWAITED: Final = 500
"""Rejections whose successor is looked for at a time."""


class Step(StrEnum):
    """A part of healing that is measured."""

    REMOVED = "removed"
    """From the first of the rejections in a row to the removal of the device."""
    RUNNING = "running"
    """From the removal to the first of the rejected tasks that runs again."""


def note_removed(
    session: Session, node_id: str, run_id: UUID, removed: Mapping[int, datetime], now: datetime
) -> None:
    """Settle the open rejections about devices that a run removed.

    Args:
        removed: VNIs to the time of the removal, by the node's clock.
    """
    which = Rejection.settled_at.is_(None), Rejection.node_id == node_id
    query = select(Rejection.task_id, Rejection.vni, Rejection.first_at)
    rows = session.execute(query.where(*which, Rejection.vni.in_(removed))).all()
    for vni, at in removed.items():
        of_vni = [row for row in rows if row.vni == vni]
        if not of_vni:
            continue
        session.execute(
            update(Rejection)
            .where(Rejection.task_id.in_([row.task_id for row in of_vni]))
            .values(settled_at=now, removed_at=at, run_id=run_id),
            execution_options={"synchronize_session": False},
        )
        begins = [row.first_at for row in of_vni if row.first_at is not None]
        if begins:
            _observe(session, Step.REMOVED, (at - min(begins)).total_seconds())


def note_running(database: Database, tasks: Sequence[SwarmTask], now: datetime) -> Collection[str]:
    """Store which rejected tasks run again, as their successors are among these tasks; return their ids."""
    running = [task for task in tasks if task.running and task.service_id and task.since]
    if not running:
        return ()
    with database.read() as session:
        query = (
            select(Rejection)
            .where(
                Rejection.removed_at.is_not(None),
                Rejection.running_at.is_(None),
                Rejection.seen_at > now - _AWAITED,
            )
            .order_by(Rejection.seen_at.desc())
            .limit(_MAX_AWAITED)
        )
        awaited = session.scalars(query).all()
        again = {row.task_id: since for row in awaited if (since := _runs_since(row, running))}
    if not again:
        return ()
    with database.write() as session:
        rows = session.scalars(select(Rejection).where(Rejection.task_id.in_(again))).all()
        before = _healed(session, {row.run_id for row in rows if row.run_id is not None})
        first: dict[tuple[UUID | None, int | None], float] = {}
        for row in rows:
            if row.running_at is not None or row.removed_at is None:
                continue
            row.running_at = again[row.task_id]
            seconds = (row.running_at - row.removed_at).total_seconds()
            key = row.run_id, row.vni
            first[key] = min(seconds, first.get(key, math.inf))
        for key, seconds in first.items():
            # Less than nothing: Swarm started it elsewhere while the device was still there.
            if key not in before and seconds >= 0:
                _observe(session, Step.RUNNING, seconds)
    return again.keys()


def _runs_since(rejection: Rejection, running: Sequence[SwarmTask]) -> datetime | None:
    """Since when a successor of the rejected task runs; None: none of these is."""
    return min(
        (
            task.since
            for task in running
            if task.service_id == rejection.service_id
            # Of a global service, or of an older controller's row: the successor is on the same node.
            and (
                task.slot == rejection.slot if rejection.slot else task.node_id == rejection.node_id
            )
            and task.since is not None
            and task.since > rejection.at
        ),
        default=None,
    )


def _healed(session: Session, runs: Collection[UUID]) -> set[tuple[UUID | None, int | None]]:
    """Run ids and VNIs for which a task runs again already."""
    query = select(Rejection.run_id, Rejection.vni).distinct()
    which = Rejection.run_id.in_(runs), Rejection.running_at.is_not(None)
    return {(row.run_id, row.vni) for row in session.execute(query.where(*which))}


def _observe(session: Session, step: Step, seconds: float) -> None:
    seconds = max(seconds, 0.0)
    bound = str(next(bound for bound in BUCKETS if seconds <= bound))
    row = session.get(HealingTime, step.value)
    if row is None:
        session.add(HealingTime(step=step.value, buckets={bound: 1}, seconds=seconds))
    else:
        row.buckets = {**row.buckets, bound: row.buckets.get(bound, 0) + 1}
        row.seconds += seconds


def histogram(session: Session, step: Step) -> tuple[Sequence[tuple[float, int]], float]:
    """Return how many healings took at most so long, ever: bounds with cumulated counts; and their sum.

    Bounds that an earlier version used count in the next larger one.
    """
    row = session.get(HealingTime, step.value)
    counts = {} if row is None else {float(key): count for key, count in row.buckets.items()}
    cumulated = [
        (bound, sum(count for upper, count in counts.items() if upper <= bound))
        for bound in BUCKETS
    ]
    return cumulated, 0.0 if row is None else row.seconds
