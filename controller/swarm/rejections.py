"""Tasks that were rejected because of a leaked device: their nodes are due at once, once for each task."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from controller import due
from controller.database import Database
from controller.due import Ring
from controller.states import Priority
from controller.swarm.faults import is_leak
from controller.swarm.values import SwarmTask

_MOST_REMEMBERED: Final = 20_000
_LONGEST_REASON: Final = 500


class Rejections:
    """Asks for runs of nodes that rejected tasks with the fault's words, before Swarm tries again.

    Args:
        database: where nodes are made due.
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
        return [task for task in tasks if is_leak(task.error)]

    def tell(self, tasks: Iterable[SwarmTask]) -> None:
        """Make the nodes due of those among these tasks that were rejected and are new."""
        new = [task for task in self.among(tasks) if task.id not in self._told]
        if not new:
            return
        with self._database.write() as session:
            for task in new:
                due.request(
                    session,
                    [task.node_id],
                    at=self._utcnow(),
                    priority=Priority.DRIFT,
                    reason=f"task {task.id} was rejected: {task.error}"[:_LONGEST_REASON],
                )
        # Only now: what could not be stored is told again.
        self._told.update((task.id, None) for task in new)
        for oldest in list(self._told)[:-_MOST_REMEMBERED]:
            del self._told[oldest]
        self._ring(Priority.DRIFT)
