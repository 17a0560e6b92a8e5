"""Deletes runs, requeues and rejections that are older than the retention."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import delete, exists, select, update

from controller.db.engine import Database
from controller.db.models import DueNode, Rejection, Requeue, Run

log = structlog.get_logger(__name__)

REJECTION_COUNTS: Final = timedelta(minutes=10)
"""Older rejections say nothing of the present: Swarm tries again within seconds."""

_BATCH: Final = 1_000
"""Rows per transaction."""


class RunRetention:
    """Deletes old rows in batches; for audit rows see `audit.retention`.

    Args:
        database: the leader's.
        retention: maximum age of the rows.
        utcnow: the wall clock.
    """

    def __init__(
        self,
        database: Database,
        *,
        retention: timedelta,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._retention = retention
        self._utcnow = utcnow

    def step(self) -> bool:
        """Delete a batch of each kind; return whether there may be more."""
        now = self._utcnow()
        before = now - self._retention
        under_way = exists().where(DueNode.run_id == Run.id)
        runs = (
            select(Run.id)
            .where(Run.requested_at < before, ~under_way)
            .order_by(Run.requested_at)
            .limit(_BATCH)
        )
        requeues = (
            select(Requeue.token)
            .where(Requeue.requested_at < before)
            .order_by(Requeue.requested_at)
            .limit(_BATCH)
        )
        rejections = (
            select(Rejection.task_id)
            .where(Rejection.seen_at < before)
            .order_by(Rejection.seen_at)
            .limit(_BATCH)
        )
        with self._database.write() as session:
            session.execute(
                update(Rejection)
                .where(Rejection.settled_at.is_(None), Rejection.seen_at < now - REJECTION_COUNTS)
                .values(settled_at=now)
            )
            deleted = [
                len(session.execute(statement).all())
                for statement in (
                    delete(Run).where(Run.id.in_(runs)).returning(Run.id),
                    delete(Requeue).where(Requeue.token.in_(requeues)).returning(Requeue.token),
                    delete(Rejection)
                    .where(Rejection.task_id.in_(rejections))
                    .returning(Rejection.task_id),
                )
            ]
        if any(deleted):
            log.debug("deleted old rows", runs=deleted[0], requeues=deleted[1])
        return _BATCH in deleted
