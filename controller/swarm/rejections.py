"""Tasks that were rejected because of a leaked device: kept, and their nodes looked at at once.

A rejection is the strongest proof that there is, and Swarm tries again after some seconds: so it must reach
the node's worker before that.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controller import due
from controller.database import Database
from controller.due import Ring
from controller.models import Node, Rejection
from controller.states import Priority
from controller.swarm.blame import blame
from controller.swarm.faults import is_leak
from controller.swarm.values import SwarmNetwork, SwarmTask

_MOST_REMEMBERED: Final = 20_000
_LONGEST_REASON: Final = 500
_LONGEST_ERROR: Final = 2_000
_MOST_AT_ONCE: Final = 500

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

    def __init__(self, database: Database, ring: Ring, utcnow: Callable[[], datetime]) -> None:
        self._database = database
        self._ring = ring
        self._utcnow = utcnow
        self._told: dict[str, None] = {}
        """Ids of tasks, the oldest first: Swarm lists them for long."""

    @staticmethod
    def among(tasks: Iterable[SwarmTask]) -> list[SwarmTask]:
        """Those that failed with the fault's words."""
        return [task for task in tasks if task.error and is_leak(task.error)]

    def tell(self, tasks: Iterable[SwarmTask], networks: Mapping[str, SwarmNetwork]) -> None:
        """Keep those among these tasks that were rejected and are new, and make their nodes due."""
        new = [task for task in self.among(tasks) if task.id not in self._told][:_MOST_AT_ONCE]
        if not new:
            return
        with self._database.write() as session:
            for task in self._unknown(session, new):
                self._keep(session, task, networks)
        # Only now: what could not be stored is told again.
        self._told.update((task.id, None) for task in new)
        for oldest in list(self._told)[:-_MOST_REMEMBERED]:
            del self._told[oldest]
        self._ring(Priority.DRIFT)

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
                ).where(Rejection.settled_at.is_(None), Rejection.network_id.is_not(None))
            ).all()
        settled = []
        for row in open_:
            if row.node_id not in nodes:
                continue
            theirs = [
                task
                for task in tasks
                if task.node_id == row.node_id and row.network_id in task.networks and task.wanted
            ]
            later = any(
                task.running and task.since is not None and task.since > row.at for task in theirs
            )
            if later or (not theirs and now - row.seen_at > _BETWEEN_TASKS):
                settled.append(row.task_id)
        if settled:
            with self._database.write() as session:
                session.execute(
                    update(Rejection).where(Rejection.task_id.in_(settled)).values(settled_at=now)
                )

    @staticmethod
    def _unknown(session: Session, tasks: Sequence[SwarmTask]) -> list[SwarmTask]:
        """Those of which nothing is stored, on nodes that are: a node comes with the next whole reading."""
        kept = set(
            session.scalars(
                select(Rejection.task_id).where(Rejection.task_id.in_([task.id for task in tasks]))
            )
        )
        nodes = set(
            session.scalars(select(Node.id).where(Node.id.in_({task.node_id for task in tasks})))
        )
        return [task for task in tasks if task.id not in kept and task.node_id in nodes]

    def _keep(
        self, session: Session, task: SwarmTask, networks: Mapping[str, SwarmNetwork]
    ) -> None:
        now = self._utcnow()
        found = blame(task, networks)
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
                error=task.error[:_LONGEST_ERROR],
                settled_at=now if old else None,
            )
        )
        if not old:
            due.request(
                session,
                [task.node_id],
                at=now,
                priority=Priority.DRIFT,
                reason=f"task {task.id} was rejected: {task.error}"[:_LONGEST_REASON],
            )


def settle_removed(session: Session, node_id: str, vnis: Collection[int], now: datetime) -> None:
    """Note that the devices with these VNIs are gone from a node: what was rejected was about them."""
    session.execute(
        update(Rejection)
        .where(
            Rejection.node_id == node_id, Rejection.vni.in_(vnis), Rejection.settled_at.is_(None)
        )
        .values(settled_at=now)
    )
