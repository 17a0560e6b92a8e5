"""Tasks rejected because of a leaked device: recorded as rows, and their nodes made due at once.

A rejection is the strongest proof there is. Swarm tries again after some seconds: the node's worker must
get the rejection before that.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.db.audit_models import AuditRow
from controller.db.engine import Database
from controller.db.models import Node, Rejection
from controller.swarm import healing
from controller.swarm.faults import cause_of, is_leak, networks_meant
from controller.swarm.model import SwarmNetwork, SwarmTask
from controller.workqueue import queue
from controller.workqueue.priorities import Priority
from controller.workqueue.queue import Notify

_MAX_RECORDED_IDS: Final = 20_000
_MAX_REASON: Final = 500
_MAX_ERROR: Final = 2_000
_MAX_BATCH: Final = 500

_MAX_OPEN: Final = 10
"""Rejections of one VNI on one node."""

_NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)

_OLD: Final = timedelta(days=1)
"""An unknown task rejected longer ago is history: Swarm lists some for long. No clock is off by so much; the
worker of such a node refuses all requests."""

_BETWEEN_TASKS: Final = timedelta(seconds=60)
"""More than Swarm's restart delay (5 s by default)."""


class Rejections:
    """Records rejections of several threads' readings.

    Args:
        recovered: called with rejected tasks that run again.
    """

    def __init__(
        self,
        database: Database,
        notify: Notify,
        utcnow: Callable[[], datetime],
        recovered: Callable[[Collection[str]], None] = lambda _: None,
    ) -> None:
        self._database, self._notify, self._utcnow = database, notify, utcnow
        self._recovered = recovered
        self._lock = threading.Lock()
        self._recorded: dict[str, None] = {}
        """Task ids, the oldest first: Swarm lists rejected tasks for long."""

    @staticmethod
    def among(tasks: Sequence[SwarmTask], networks: Mapping[str, SwarmNetwork]) -> list[SwarmTask]:
        """The tasks refused with the fault, and not followed by one of that network that runs there."""
        refused = [task for task in tasks if task.refused and is_leak(task.error)]
        runs = _newest_running(tasks, {task.node_id for task in refused})

        def is_followed(task: SwarmTask) -> bool:
            since = task.since or _NEVER
            return any(
                runs.get((task.node_id, id_), _NEVER) > since
                for id_ in networks_meant(task, networks)
            )

        return [task for task in refused if not is_followed(task)]

    def record(self, tasks: Iterable[SwarmTask], networks: Mapping[str, SwarmNetwork]) -> None:
        """Store the new rejections among these tasks, and make their nodes due."""
        with self._lock:
            rejected = self.among([*tasks], networks)
            new = [task for task in rejected if task.id not in self._recorded][:_MAX_BATCH]
            if not new:
                return
            with self._database.write() as session:
                # A node that is not stored yet comes with the next full reading, and its tasks again.
                ids = {task.node_id for task in new}
                nodes = set(session.scalars(select(Node.id).where(Node.id.in_(ids))))
                known = [task for task in new if task.node_id in nodes]
                ids = {task.id for task in known}
                query = select(Rejection.task_id).where(Rejection.task_id.in_(ids))
                stored = set(session.scalars(query))
                for task in known:
                    if task.id not in stored:
                        self._add(session, task, networks)
                session.flush()
                self._settle_superseded(session, nodes)
            # After the commit: what could not be stored is tried again.
            self._recorded.update((task.id, None) for task in known)
            for oldest in list(self._recorded)[:-_MAX_RECORDED_IDS]:
                del self._recorded[oldest]
            if known:
                self._notify(Priority.DRIFT)

    def _add(self, session: Session, task: SwarmTask, networks: Mapping[str, SwarmNetwork]) -> None:
        now = self._utcnow()
        at = task.since or now
        cause = cause_of(task, networks)
        over = now - at > _OLD or _removed_since(session, task.node_id, cause.vni, at)
        session.add(
            Rejection(
                task_id=task.id,
                node_id=task.node_id,
                at=at,
                seen_at=now,
                error=task.error[:_MAX_ERROR],
                service_id=task.service_id or None,
                slot=task.slot or None,
                first_at=None if over else self._first_at(session, task.node_id, cause.vni, at),
                settled_at=now if over else None,
                **cause._asdict(),
            )
        )
        if not over:
            reason = f"task {task.id} was rejected: {task.error}"[:_MAX_REASON]
            queue.request(session, [task.node_id], at=now, priority=Priority.DRIFT, reason=reason)

    @staticmethod
    def _first_at(session: Session, node_id: str, vni: int | None, at: datetime) -> datetime:
        """The time of the first of the rejections in a row that this one continues."""
        if vni is None:
            return at
        earlier = select(func.min(Rejection.first_at)).where(
            Rejection.settled_at.is_(None), Rejection.node_id == node_id, Rejection.vni == vni
        )
        first: datetime | None = session.scalar(earlier)
        return at if first is None else min(first, at)

    def _settle_superseded(self, session: Session, nodes: Collection[str]) -> None:
        """Leave the newest few of each node and VNI open: more add nothing."""
        rank = func.row_number().over(
            partition_by=(Rejection.node_id, Rejection.vni, Rejection.cidr),
            order_by=(Rejection.seen_at.desc(), Rejection.at.desc(), Rejection.task_id),
        )
        still_open = Rejection.settled_at.is_(None), Rejection.node_id.in_(nodes)
        ranked = select(Rejection.task_id, rank.label("rank")).where(*still_open).subquery()
        extra = select(ranked.c.task_id).where(ranked.c.rank > _MAX_OPEN)
        _settle(session, self._utcnow(), Rejection.task_id.in_(extra))

    def settle(self, nodes: Collection[str], tasks: Sequence[SwarmTask]) -> None:
        """Settle the rejections that are over, given all tasks of these nodes.

        Either a later task of the network runs there, or none has been wanted there for a while: between
        a rejected task's end and its successor's beginning there is none either.
        """
        now = self._utcnow()
        with self._database.read() as session:
            still_open = Rejection.settled_at.is_(None), Rejection.network_id.is_not(None)
            key = Rejection.task_id, Rejection.node_id, Rejection.network_id
            query = select(*key, Rejection.at, Rejection.seen_at)
            open_ = session.execute(query.where(*still_open, Rejection.node_id.in_(nodes))).all()
        runs = _newest_running(tasks, {row.node_id for row in open_})
        settled = [
            row.task_id
            for row in open_
            if (
                runs[row.node_id, row.network_id] > row.at
                if (row.node_id, row.network_id) in runs
                else now - row.seen_at > _BETWEEN_TASKS
            )
        ]
        if settled:
            with self._database.write() as session:
                _settle(session, now, Rejection.task_id.in_(settled))
        self.note_running(tasks)

    def note_running(self, tasks: Sequence[SwarmTask]) -> None:
        """Store which of the tasks whose rejection led to a removal run again."""
        self._recovered(healing.note_running(self._database, tasks, self._utcnow()))


def _removed_since(session: Session, node_id: str, vni: int | None, at: datetime) -> bool:
    """Whether a device with the VNI was removed on the node since; all by the node's clock.

    Of several replicas, some rejections may be read only after the report of the removal.
    """
    row = select(AuditRow.id).where(
        AuditRow.vni == vni,
        AuditRow.at >= at,
        AuditRow.node_id == node_id,
        AuditRow.stage == Stage.APPLIED,
    )
    return vni is not None and session.scalar(row.limit(1)) is not None


def _settle(session: Session, now: datetime, *which: ColumnElement[bool]) -> None:
    settled = update(Rejection).where(Rejection.settled_at.is_(None), *which).values(settled_at=now)
    session.execute(settled, execution_options={"synchronize_session": False})


def _newest_running(
    tasks: Iterable[SwarmTask], nodes: Collection[str]
) -> Mapping[tuple[str, str], datetime]:
    """Node and network id, where a task is wanted, to the start of the newest that runs (_NEVER: none)."""
    found: dict[tuple[str, str], datetime] = {}
    for task in tasks:
        if task.node_id in nodes and task.wanted:
            since = task.since if task.running and task.since is not None else _NEVER
            for network_id in task.networks:
                key = (task.node_id, network_id)
                found[key] = max(since, found.get(key, _NEVER))
    return found
