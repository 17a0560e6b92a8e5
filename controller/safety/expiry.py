"""Ends pauses whose time is over; a loop of the leader."""

from typing import Final

import structlog
from sqlalchemy import bindparam, exists, or_, select

from controller.db.engine import Database
from controller.db.models import Cluster, Network, Node
from controller.db.sql_functions import database_time
from controller.safety import decisions
from controller.workqueue.queue import Notify

log = structlog.get_logger(__name__)

_MAX_ENDED: Final = 100
"""Pauses that one step ends."""

_IS_ANY_OVER: Final = select(
    or_(
        *(
            exists().where(kind.paused_until <= bindparam("now"))
            for kind in (Cluster, Node, Network)
        )
    )
)


class PauseExpiry:
    """Ends pauses. Most steps read one row: a write would make SQLite's other writers wait."""

    def __init__(self, database: Database, notify: Notify) -> None:
        self._database = database
        self._notify = notify

    def step(self) -> None:
        """End the pauses whose time is over."""
        for _ in range(_MAX_ENDED):
            if not self._is_any_over():
                return
            with self._database.write() as session:
                ended = decisions.end_pause(session)
            if not ended:
                return
            log.info("a pause has ended by itself")
            self._notify()

    def _is_any_over(self) -> bool:
        with self._database.read() as session:
            now = database_time(session)
            return bool(session.scalar(_IS_ANY_OVER, {"now": now}))
