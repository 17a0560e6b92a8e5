"""Tasks that were rejected because of a leaked device: kept, and their nodes looked at at once.

A rejection is the strongest proof that there is, and Swarm tries again after some seconds: so it must reach
the node's worker before that.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from controller.db.engine import Database
from controller.db.models import Node, Rejection
from controller.swarm.cause import cause_of
from controller.swarm.faults import is_leak
from controller.swarm.model import SwarmNetwork, SwarmTask
from controller.workqueue import queue
from controller.workqueue.priorities import Priority
from controller.workqueue.queue import Notify

_MAX_REMEMBERED: Final = 20_000
_MAX_REASON: Final = 500
_MAX_ERROR: Final = 2_000
_MAX_AT_ONCE: Final = 500

_MAX_OPEN: Final = 10
"""Of one VNI on one node."""

_NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)

_OLD: Final = timedelta(days=1)
"""A task of which nothing is stored, rejected so long ago, is history: Swarm lists some for long. No clock is
off by so much; the worker of such a node refuses all requests."""

_BETWEEN_TASKS: Final = timedelta(seconds=60)
"""Beyond Swarm's delay before it tries again (5 s, unless somebody set more)."""


class Rejections:
    """Keeps rejections, and asks for runs of their nodes before Swarm tries again.

    Args:
        database: where they are kept, and nodes are made due.
        ring: called when one was.
        utcnow: the time of day.
    """

    def __init__(self, database: Database, notify: Notify, utcnow: Callable[[], datetime]) -> None:
        self._database = database
        self._notify = notify
        self._utcnow = utcnow
        # Two threads read tasks.
        self._lock = threading.Lock()
        self._told: dict[str, None] = {}
        """Ids of tasks, the oldest first: Swarm lists them for long."""

    @staticmethod
    def among(tasks: Sequence[SwarmTask]) -> list[SwarmTask]:
        """Those that were refused with the fault's words, and not followed by one that runs there."""
        refused = [task for task in tasks if task.refused and is_leak(task.error)]
        runs = _newest_running(tasks, {task.node_id for task in refused})
        return [
            task
            for task in refused
            if all(
                runs.get((task.node_id, network), _NEVER) <= (task.since or _NEVER)
                for network in task.networks
            )
        ]

    def record(self, tasks: Iterable[SwarmTask], networks: Mapping[str, SwarmNetwork]) -> None:
        """Keep those among these tasks that were rejected and are new, and make their nodes due."""
        with self._lock:
            self._record([*tasks], networks)

    def _record(self, tasks: Sequence[SwarmTask], networks: Mapping[str, SwarmNetwork]) -> None:
        new = [task for task in self.among(tasks) if task.id not in self._told][:_MAX_AT_ONCE]
        if not new:
            return
        with self._database.write() as session:
            # A node that is not stored yet comes with the next whole reading, and its tasks again.
            nodes = set(
                session.scalars(select(Node.id).where(Node.id.in_({task.node_id for task in new})))
            )
            known = [task for task in new if task.node_id in nodes]
            kept = set(
                session.scalars(
                    select(Rejection.task_id).where(
                        Rejection.task_id.in_([task.id for task in known])
                    )
                )
            )
            for task in known:
                if task.id not in kept:
                    self._keep(session, task, networks)
            session.flush()
            self._settle_superseded(session, {task.node_id for task in known})
        # Only now: what could not be stored is told again.
        self._told.update((task.id, None) for task in known)
        for oldest in list(self._told)[:-_MAX_REMEMBERED]:
            del self._told[oldest]
        if known:
            self._notify(Priority.DRIFT)

    def settle(self, nodes: Collection[str], tasks: Sequence[SwarmTask]) -> None:
        """Note of which rejections nothing is left, given all tasks of these nodes.

        Either a later task of the network runs there, or for a while none has been to: between a rejected
        task's end and its successor's beginning there is none either.
        """
        now = self._utcnow()
        with self._database.read() as session:
            open_ = session.execute(
                select(
                    Rejection.task_id,
                    Rejection.node_id,
                    Rejection.network_id,
                    Rejection.at,
                    Rejection.seen_at,
                ).where(
                    Rejection.settled_at.is_(None),
                    Rejection.network_id.is_not(None),
                    Rejection.node_id.in_(nodes),
                )
            ).all()
        if not open_:
            return
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
                session.execute(
                    update(Rejection).where(Rejection.task_id.in_(settled)).values(settled_at=now)
                )

    def _settle_superseded(self, session: Session, nodes: Collection[str]) -> None:
        """Let the newest few of each node and VNI speak for all: more say nothing new."""
        rank = func.row_number().over(
            partition_by=(Rejection.node_id, Rejection.vni, Rejection.cidr),
            order_by=(Rejection.seen_at.desc(), Rejection.at.desc(), Rejection.task_id),
        )
        ranked = (
            select(Rejection.task_id, rank.label("rank"))
            .where(Rejection.settled_at.is_(None), Rejection.node_id.in_(nodes))
            .subquery()
        )
        session.execute(
            update(Rejection)
            .where(Rejection.task_id.in_(select(ranked.c.task_id).where(ranked.c.rank > _MAX_OPEN)))
            .values(settled_at=self._utcnow())
            .execution_options(synchronize_session=False)
        )

    def _keep(
        self, session: Session, task: SwarmTask, networks: Mapping[str, SwarmNetwork]
    ) -> None:
        now = self._utcnow()
        found = cause_of(task, networks)
        at = task.since or now
        old = now - at > _OLD
        session.add(
            Rejection(
                task_id=task.id,
                node_id=task.node_id,
                at=at,
                seen_at=now,
                network_id=found.network_id,
                vni=found.vni,
                cidr=found.cidr,
                doubt=found.doubt,
                error=task.error[:_MAX_ERROR],
                settled_at=now if old else None,
            )
        )
        if not old:
            queue.request(
                session,
                [task.node_id],
                at=now,
                priority=Priority.DRIFT,
                reason=f"task {task.id} was rejected: {task.error}"[:_MAX_REASON],
            )


def _newest_running(
    tasks: Iterable[SwarmTask], nodes: Collection[str]
) -> Mapping[tuple[str, str], datetime]:
    """Node and network id to when the newest of its tasks that runs there began to.

    Before all time if none runs, and only on these nodes. What no task is to be on is not in it.
    """
    found: dict[tuple[str, str], datetime] = {}
    for task in tasks:
        if task.node_id in nodes and task.wanted:
            since = task.since if task.running and task.since is not None else _NEVER
            for network_id in task.networks:
                key = (task.node_id, network_id)
                found[key] = max(since, found.get(key, _NEVER))
    return found


def settle_removed(session: Session, node_id: str, vnis: Collection[int], now: datetime) -> None:
    """Note that the devices with these VNIs are gone from a node: what was rejected was about them."""
    session.execute(
        update(Rejection)
        .where(
            Rejection.node_id == node_id, Rejection.vni.in_(vnis), Rejection.settled_at.is_(None)
        )
        .values(settled_at=now)
    )
