"""Deletes runs, requeues, rejections and events that are older than the retention."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import delete, exists, select, update

from controller.db.engine import Database
from controller.db.models import DueNode, Event, Rejection, Requeue, Run

log = structlog.get_logger(__name__)

REJECTION_COUNTS: Final = timedelta(minutes=10)
"""Older rejections say nothing of the present: Swarm tries again within seconds."""

_BATCH: Final = 1_000
"""Rows per transaction."""


class RunRetention:
    """Deletes rows older than `retention` in batches; for audit rows see `audit.retention`."""

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
        kinds: tuple[tuple[Any, Any, list[Any]], ...] = (
            (Run.id, Run.requested_at, [~under_way]),
            (Requeue.token, Requeue.requested_at, []),
            (Rejection.task_id, Rejection.seen_at, []),
            (Event.id, Event.at, []),
        )
        deleted = []
        with self._database.write() as session:
            session.execute(
                update(Rejection)
                .where(Rejection.settled_at.is_(None), Rejection.seen_at < now - REJECTION_COUNTS)
                .values(settled_at=now)
            )
            for key, at, conditions in kinds:
                old = select(key).where(at < before, *conditions).order_by(at).limit(_BATCH)
                statement = delete(key.class_).where(key.in_(old)).returning(key)
                deleted.append(len(session.execute(statement).all()))
        if any(deleted):
            log.debug("deleted old rows", runs=deleted[0], requeues=deleted[1])
        return _BATCH in deleted
