"""Reading the Swarm, again and again: the thread that keeps desired state what the Swarm says."""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from sqlalchemy.orm import Session

from controller import due
from controller.database import Database
from controller.desired import note_failure, store
from controller.faults import is_leak
from controller.states import Priority
from controller.swarm import Snapshot, Swarm, SwarmError

log = structlog.get_logger(__name__)


class Sync:
    """One look at the Swarm after another.

    Args:
        swarm: where to look.
        database: where to store.
        ring: called when something may have become due.
        utcnow: the time of day.
    """

    def __init__(
        self,
        swarm: Swarm,
        database: Database,
        *,
        ring: Callable[[], None],
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._swarm = swarm
        self._database = database
        self._ring = ring
        self._utcnow = utcnow
        self._rejected: frozenset[str] = frozenset()
        self._failing = False

    def step(self) -> bool:
        """Read the Swarm and store what it says; return whether that worked.

        On any error desired state stays as it was, and the reason is stored beside it.
        """
        try:
            snapshot = self._swarm.snapshot()
            with self._database.write() as session:
                changed = store(session, snapshot, self._utcnow())
                rejected = self._ask_for_rejections(session, snapshot)
        except SwarmError as error:
            if not self._failing:
                log.warning("the Swarm cannot be read; desired state stays", error=str(error))
            self._failing = True
            with self._database.write() as session:
                note_failure(session, str(error), self._utcnow())
            return False
        if self._failing:
            log.info("the Swarm can be read again")
            self._failing = False
        self._rejected = rejected
        if changed:
            log.info("desired state changed", nodes=len(changed))
        self._ring()
        return True

    def _ask_for_rejections(self, session: Session, snapshot: Snapshot) -> frozenset[str]:
        """Make nodes due at once that rejected a task with the fault's words; return all such tasks."""
        rejected = {task.id: task for task in snapshot.tasks if is_leak(task.error)}
        new = rejected.keys() - self._rejected
        for task_id in new:
            due.request(
                session,
                [rejected[task_id].node_id],
                at=self._utcnow(),
                priority=Priority.DRIFT,
                reason=f"task {task_id} was rejected: {rejected[task_id].error}"[:500],
            )
        return frozenset(rejected)
