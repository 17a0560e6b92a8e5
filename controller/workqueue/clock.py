"""`ClockCorrection`: brings back due times and deadlines that a controller's clock set too late.

A clock that was ahead and was put right would leave every node alone until these times come.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import ColumnElement, or_, select

from controller.db.engine import Database
from controller.db.models import DueNode
from controller.workqueue.queue import MAX_BACKOFF, Notify

log = structlog.get_logger(__name__)

_SLACK: Final = timedelta(minutes=1)
_BATCH: Final = 200
"""Rows per transaction."""


class ClockCorrection:
    """Looks for times that no clock of now can have set; most steps read one row.

    Args:
        resync: maximum time between runs of a node.
        run_timeout: until a run without a report is lost.
    """

    def __init__(
        self,
        database: Database,
        notify: Notify,
        *,
        resync: timedelta,
        run_timeout: timedelta,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._notify = notify
        self._utcnow = utcnow
        self._latest_due = max(resync * 1.1, MAX_BACKOFF) + _SLACK
        self._latest_deadline = run_timeout + _SLACK

    def step(self) -> None:
        """Make nodes due now, and runs lost, whose times are later than any can be."""
        now = self._utcnow()
        late = self._is_late(now)
        with self._database.read() as session:
            if session.scalar(select(DueNode.node_id).where(late).limit(1)) is None:
                return
        with self._database.write() as session:
            rows = session.scalars(
                select(DueNode)
                .where(late)
                .order_by(DueNode.node_id)
                .limit(_BATCH)
                .with_for_update(skip_locked=True)
            ).all()
            for row in rows:
                if row.due_at is not None:
                    row.due_at = min(row.due_at, now)
                if row.run_deadline is not None:
                    row.run_deadline = min(row.run_deadline, now)
        log.warning("a clock was put right: nodes are due at once", nodes=len(rows))
        self._notify()

    def _is_late(self, now: datetime) -> ColumnElement[bool]:
        return or_(
            DueNode.due_at > now + self._latest_due,
            DueNode.run_deadline > now + self._latest_deadline,
        )
