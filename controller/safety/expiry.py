"""Ends pauses whose time is over; a loop of the leader."""

from typing import Final

import structlog
from sqlalchemy import select

from controller.db.engine import Database
from controller.db.models import Cluster, Network, Node
from controller.db.sql_functions import database_time
from controller.safety import decisions
from controller.workqueue.queue import Notify

log = structlog.get_logger(__name__)

_MAX_ENDED: Final = 100
"""Pauses that one step ends."""


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
            return any(
                session.scalar(select(kind.id).where(kind.paused_until <= now).limit(1)) is not None
                for kind in (Cluster, Node, Network)
            )
