"""Sends what is due, in threads of its own: a target that hangs delays no other, and nothing else.

Results are stored by one thread. While the database takes none, nothing more is sent, or the same would be
sent again and again; a leader that dies between an attempt and its result leaves it to the next, which sends
the same `webhook-id`.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
from prometheus_client import Counter
from sqlalchemy import select

from controller.conditions.age import Age
from controller.db.engine import Database
from controller.db.models import Cluster
from controller.db.notification_models import NotificationTarget
from controller.notifications import outbox
from controller.notifications.collect import NO_TARGETS_SECONDS
from controller.notifications.errors import Answer, DeliveryError
from controller.notifications.outbox import Result
from controller.notifications.send import Parcel

log = structlog.get_logger(__name__)

MAX_AT_ONCE: Final = 8
"""Threads; each target has one at most."""
_IDLE_SECONDS: Final = 1.0
_BUSY_SECONDS: Final = 0.1
_RECORD_SECONDS: Final = 1.0

_ANY_TARGET: Final = select(NotificationTarget.id).limit(1)

ATTEMPTS: Final = Counter(
    "vxlan_operator_notification_attempts",
    "Attempts to deliver notifications, by how they ended.",
    ["state"],
    registry=None,
)
for _result in ("delivered", "failed", "given_up"):
    ATTEMPTS.labels(_result)


class Deliverer:
    """One thread of the leader runs its step.

    Args:
        database: fenced: results count only while this process leads.
        send: raises `DeliveryError`.
    """

    def __init__(
        self,
        database: Database,
        send: Callable[[Parcel], Answer],
        *,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
        max_at_once: int = MAX_AT_ONCE,
    ) -> None:
        self._database = database
        self._send = send
        self._utcnow = utcnow
        self._max_at_once = max_at_once
        self._lock = threading.Lock()
        self._busy: set[int] = set()
        self._results: list[Result] = []
        self._arrived = threading.Condition(self._lock)
        self._is_stopping = False
        self._recording = threading.Lock()

    def step(self) -> float:
        """Store results, and send what is due; return the seconds until the next step."""
        self._record()
        now = self._utcnow()
        with self._lock:
            if self._is_stopping:
                return _IDLE_SECONDS
            busy = set(self._busy)
        free = self._max_at_once - len(busy)
        if free > 0:
            with self._database.read() as session:
                if session.scalar(_ANY_TARGET) is None:
                    return NO_TARGETS_SECONDS
                parcels = list(outbox.due(session, now, busy, free))
                cluster = session.get(Cluster, 1)
                # A heartbeat says that all works: not if nobody derives conditions any more.
                if cluster is not None and not Age(
                    cluster.conditions_at, cluster.conditions_until
                ).is_stale(now):
                    busy |= {parcel.target_id for parcel in parcels}
                    parcels += outbox.heartbeats(session, now, busy)
            for parcel in parcels[:free]:
                self._start(parcel)
        with self._lock:
            return _BUSY_SECONDS if self._busy or self._results else _IDLE_SECONDS

    def end(self) -> None:
        """Start no more: what is due is the next leader's."""
        with self._lock:
            self._is_stopping = True

    def stop(self, seconds: float) -> None:
        """After `end`: wait so long for what is on its way, and store what came of it.

        Otherwise each planned restart would send that again.
        """
        deadline = time.monotonic() + seconds
        with self._lock:
            self._is_stopping = True
            while len(self._busy) > len(self._results):
                left = deadline - time.monotonic()
                if left <= 0 or not self._arrived.wait(left):
                    break
        # A step that hangs in the database still has it.
        if self._recording.acquire(timeout=_RECORD_SECONDS):
            try:
                self._store()
            finally:
                self._recording.release()

    def _start(self, parcel: Parcel) -> None:
        with self._lock:
            if self._is_stopping:
                return
            self._busy.add(parcel.target_id)
        threading.Thread(
            target=self._deliver, args=(parcel,), name="notification", daemon=True
        ).start()

    def _deliver(self, parcel: Parcel) -> None:
        error: str | None = None
        retry_after: float | None = None
        try:
            self._send(parcel)
        except DeliveryError as failed:
            error, retry_after = str(failed), failed.retry_after
        except Exception as failed:
            log.exception("a notification could not be sent")
            error = f"an error of this program ({type(failed).__name__}): see the controller's log"
        with self._lock:
            self._results.append(Result(parcel, self._utcnow(), error, retry_after))
            self._arrived.notify_all()

    def _record(self) -> None:
        with self._recording:
            self._store()

    def _store(self) -> None:
        """Store results; the targets stay busy until that has succeeded."""
        with self._lock:
            results = list(self._results)
        if not results:
            return
        with self._database.write() as session:
            counts = outbox.record(session, results)
        for result, count in counts.items():
            ATTEMPTS.labels(result).inc(count)
        with self._lock:
            del self._results[: len(results)]
            self._busy -= {result.parcel.target_id for result in results}
