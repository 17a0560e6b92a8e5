"""Maintenance of the audit trail: logs the head of the chain once a day and applies the retention."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Final

import structlog

from controller.audit.append import head_of
from controller.audit.retention import AuditRetention
from controller.db.engine import Database

log = structlog.get_logger(__name__)

IDLE_SECONDS: Final = 60.0
"""Wait between two steps without work."""


class Maintenance:
    """Runs in the controller that leads; without a `retention`, rows stay for ever."""

    def __init__(
        self,
        database: Database,
        retention: AuditRetention | None,
        *,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._retention = retention
        self._utcnow = utcnow
        self._head_logged: date | None = None

    def step(self) -> float:
        """Do one batch of work; return the seconds until the next step."""
        now = self._utcnow()
        if self._head_logged != now.date():
            with self._database.read() as session:
                head = head_of(session)
            # Logs go elsewhere than the database: an edit of one does not reach the other.
            log.info("head of the audit trail", head=str(head))
            self._head_logged = now.date()
        pruned = 0 if self._retention is None else self._retention.step(now)
        return 0.0 if pruned else IDLE_SECONDS
