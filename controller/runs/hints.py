"""Workers' hints: a drift hint or a Hello makes its node due."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from contract.messages import Drift, Hello
from contract.runtime.throttle import Throttle
from contract.signing.envelope import Opened
from controller.db.engine import Database
from controller.db.models import DueNode, Node
from controller.runs import devices, seen
from controller.runs.pace import Pace
from controller.swarm.readings import Readings
from controller.workqueue import queue
from controller.workqueue.priorities import Priority
from controller.workqueue.queue import Notify

log = structlog.get_logger(__name__)

_MAX_REASON: Final = 200
"""Characters of a Hello's reason that become the run's."""

_SOON: Final = timedelta(seconds=0.1)
"""A run that is due so soon is the one that a hint asks for."""

_LOG_SECONDS: Final = 10.0
"""Between two lines of the log about a node that left, whose key is believed for a while."""

_FRESH: Final = timedelta(seconds=5)
"""Within it, a second Hello of a node that is due already says nothing new."""


class HintIntake:
    """Handles the tasks `controller.drift` and `controller.hello`.

    Args:
        pace: bounds the runs that workers ask for.
    """

    def __init__(
        self,
        database: Database,
        *,
        readings: Readings | None = None,
        pace: Pace | None = None,
        notify: Notify,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._readings = readings or Readings()
        self._pace = pace or Pace()
        self._of_gone = Throttle(_LOG_SECONDS)
        self._notify = notify
        self._utcnow = utcnow

    def drift(self, opened: Opened[Drift]) -> None:
        """Make the node of idle devices due."""
        drift = opened.payload
        self._readings.add_stamp(drift.node_id, drift.stamp)
        first = drift.devices[0]
        more = f" and {len(drift.devices) - 1} more" if len(drift.devices) > 1 else ""
        reason = f"drift: {first.name} in {first.netns}{more} is idle"
        now = self._utcnow()
        at = now + self._pace.wait(drift.node_id)
        if self._is_due(drift.node_id, Priority.DRIFT, at):
            return  # The run that comes takes the full look: a flood of hints writes nothing.
        with self._database.write() as session:
            known = queue.request(
                session, [drift.node_id], at=at, priority=Priority.DRIFT, reason=reason
            )
            if known:
                devices.store_hint(session, drift, now)
        if not known and self._of_gone.is_due(drift.node_id):
            log.warning("drift of a node that is not in the Swarm", node_id=drift.node_id)
        self._notify(Priority.DRIFT)

    def hello(self, opened: Opened[Hello]) -> None:
        """Make the node of a worker that started, misses requests, or sees other devices, due."""
        hello = opened.payload
        now = self._utcnow()
        # Devices change all day where containers come and go: that must not delay drift and rejections.
        priority = Priority.CHANGE if hello.changed else Priority.DRIFT
        at = now + self._pace.wait(hello.node_id)
        if self._is_due(hello.node_id, priority, at, seen=True):
            return
        with self._database.write() as session:
            node = session.get(Node, hello.node_id, with_for_update={"key_share": True})
            if node is not None:
                # One that comes again tells the version of then.
                if node.worker_seen_at is None or opened.issued > node.worker_seen_at:
                    node.worker_version = hello.worker_version
                seen.note(node, opened, now)
                reason = f"its worker says: {hello.reason[:_MAX_REASON]}"
                queue.request(session, [node.id], at=at, priority=priority, reason=reason)
        if node is not None or self._of_gone.is_due(hello.node_id):
            log.info(
                "a worker says Hello"
                if node is not None
                else "Hello of a node that is not in the Swarm",
                node_id=hello.node_id,
                reason=hello.reason,
            )
        self._notify(priority)

    def _is_due(
        self, node_id: str, priority: Priority, at: datetime, *, seen: bool = False
    ) -> bool:
        """Whether a run of the node is due by then already, at least as urgently.

        `seen`: and its worker was seen a moment ago.
        """
        with self._database.read() as session:
            row = session.get(DueNode, node_id)
            if row is None or row.due_at is None or row.priority < priority:
                return False
            if row.due_at > at + _SOON:
                return False
            now = self._utcnow()
            seen_at = row.node.worker_seen_at if seen else now
        return seen_at is not None and now - seen_at < _FRESH
