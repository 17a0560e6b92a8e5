"""Looking after the audit trail: rows of the first release are linked, its head is told, retention kept."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Final

import structlog

from controller.audit.append import adopt, head_of
from controller.audit.retention import AuditRetention
from controller.db.engine import Database

log = structlog.get_logger(__name__)

IDLE_SECONDS: Final = 60.0
"""How long to wait when there is nothing to do."""

_LINKED_AT_ONCE: Final = 500


class Maintenance:
    """One of them at a time, in the controller that leads.

    Args:
        database: where the audit trail is.
        retention: None: rows stay for ever.
        utcnow: the time of day.
    """

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
        self._told: date | None = None

    def step(self) -> float:
        """Do one batch of what there is to do; return after how many seconds to come again."""
        now = self._utcnow()
        with self._database.write() as session:
            linked = adopt(session, _LINKED_AT_ONCE)
        if linked:
            log.info("audit rows of the first release linked", rows=linked)
        if self._told != now.date():
            with self._database.read() as session:
                head = head_of(session)
            # Logs go elsewhere than the database does: who rewrites the one leaves this in the other.
            log.info("head of the audit trail", head=str(head))
            self._told = now.date()
        pruned = 0 if self._retention is None else self._retention.step(now)
        return 0.0 if linked or pruned else IDLE_SECONDS
