"""Forgetting: the run history and people's requests for runs, when they are older than the retention."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import delete, exists, select

from controller.database import Database
from controller.models import DueNode, Requeue, Run

log = structlog.get_logger(__name__)

_BATCH: Final = 1_000
"""Rows a transaction: short enough that nobody waits for it."""


class Housekeeping:
    """Deletes what is too old, some at a time. What was recorded for good is not here: see `audit`.

    Args:
        database: where the rows are.
        retention: how long they are kept.
        utcnow: the time of day.
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
        before = self._utcnow() - self._retention
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
        with self._database.write() as session:
            deleted = [
                len(session.execute(statement).all())
                for statement in (
                    delete(Run).where(Run.id.in_(runs)).returning(Run.id),
                    delete(Requeue).where(Requeue.token.in_(requeues)).returning(Requeue.token),
                )
            ]
        if any(deleted):
            log.debug("forgot what is old", runs=deleted[0], requeues=deleted[1])
        return _BATCH in deleted
