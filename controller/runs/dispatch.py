"""Sending requests: claim due nodes and put each one's request on the node's queue.

The controller is the only producer of a node's queue, but for its worker's own pings, and has one run of a
node at a time. So whatever still waits there belongs to a run that was given up, and is purged first: a node
without a worker never has more than one message, and a worker that comes back gets one run.
"""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from celery import Celery
from kombu.pools import ProducerPool
from sqlalchemy.orm import Session

from contract.messages import ReconcileRequest, SwarmReading
from contract.queues import RECONCILE_TASK, node_queue
from contract.runtime.broker import impatient_producers, let_expire, queue_for_node
from contract.verdicts import Mode
from controller.audit.append import append
from controller.db.engine import Database
from controller.db.states import RunState
from controller.leadership.lease import LeaseLostError
from controller.runs import counters, requests
from controller.runs.requests import Terms
from controller.safety.breaker import DEFAULTS, BreakerLimits
from controller.workqueue import queue, requeue
from controller.workqueue.priorities import (
    ALL_PRIORITIES,
    PRIORITY_CLASSES,
    URGENT,
    Priority,
    PriorityClass,
)
from controller.workqueue.queue import Claim
from controller.workqueue.requeue import RequeueRequest

log = structlog.get_logger(__name__)


_BATCH: Final = 50
"""Claims per transaction, and messages per round trip to the broker: twice as many cost 5 % less, and a
requeue, which waits for the transaction in progress, 40 % more."""
_NOT_LOGGED: Final = "(...)"
"""Celery would write out the arguments a second time, for logs that we do not keep."""

_MAX_WAIT_SECONDS: Final = 1.0
"""Seconds between looks at the database: another process may have asked for a node."""
_BROKER_RETRY: Final = 1.0
"""Seconds until the next try after the broker took nothing, and for a connection to it to become free."""


class Dispatcher:
    """Turns due rows into messages. A thread a lane runs it.

    Args:
        database: where the rows are.
        app: where the messages go.
        mode: what workers may do, by the settings.
        run_timeout: how long a run's report may take.
        resync: how long a node may go without a run.
        reading: tells of a node's newest reading of the Swarm; by default there was none.
        fence: which leader speaks.
        limits: when the breaker trips.
        utcnow: the time of day.
    """

    def __init__(
        self,
        database: Database,
        app: Celery,
        *,
        mode: Mode,
        run_timeout: timedelta,
        resync: timedelta,
        reading: Callable[[str], SwarmReading] = lambda _: SwarmReading(),
        fence: Callable[[], int] = lambda: 0,
        limits: BreakerLimits = DEFAULTS,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._app = app
        self._impatient = impatient_producers(app)
        self._run_timeout = run_timeout
        self._resync = resync
        self._fence = fence
        self._terms = Terms(
            mode=mode,
            limits=limits,
            fence=fence,
            reading=reading,
            next_within=max(resync * 1.1, queue.MAX_BACKOFF) + run_timeout,
        )
        self._utcnow = utcnow
        self._wakeups = {
            priority_class: threading.Event()
            for priority_class in (ALL_PRIORITIES, *PRIORITY_CLASSES)
        }
        self._away = False
        """Whether the broker could not be reached the last time."""
        self._unsure: set[str] = set()
        """Nodes whose last request the broker may have taken or not."""

    def notify(self, priority: Priority | None = None, /) -> None:
        """Say that something may have become due: of this priority, or with None of any."""
        for priority_class, wakeup in self._wakeups.items():
            if priority is None or priority_class.lowest <= priority <= priority_class.highest:
                wakeup.set()

    def requeue(self, request: RequeueRequest) -> None:
        """Store a person's request and claim urgent nodes in one transaction, and publish.

        While the broker is away it is only stored: the urgent thread publishes later. A broker that hangs is
        given up after half a second, since a person waits.

        Raises:
            LeaseLostError: another leads, or did before the messages were out. The request is stored or
                not; storing it once more makes sure.
            Exception: as `requeue.store` does; nothing was changed.
        """
        with self._database.write() as session:
            now = self._utcnow()
            entries = requeue.store(session, request, now)
            claims, built = ([], []) if self._away else self._claim(session, URGENT, now)
            append(session, entries, now)
        self._send(claims, built, self._impatient)

    def wait(self, priority_class: PriorityClass = ALL_PRIORITIES) -> None:
        """Wait for the doorbell, the lane's next due time, or a second, whichever is first."""
        wakeup = self._wakeups[priority_class]
        if wakeup.is_set():
            return
        next_time = self._next_time(priority_class)
        left = _MAX_WAIT_SECONDS
        if next_time is not None:
            left = min(left, (next_time - self._utcnow()).total_seconds())
        if left > 0:
            wakeup.wait(left)

    def step(self, priority_class: PriorityClass = ALL_PRIORITIES) -> float:
        """Close what is lost, send what is due; return for how many seconds the broker wants peace.

        Raises:
            LeaseLostError: another leads, or may; nothing was sent.
        """
        now = self._utcnow()
        rung = self._wakeups[priority_class].is_set()
        self._wakeups[priority_class].clear()
        # Most looks end here, and SQLite's one writer is not held up.
        if not (priority_class is URGENT and rung) and not self._is_due(priority_class, now):
            return 0.0
        return self._send_due(priority_class, now)

    def _is_due(self, priority_class: PriorityClass, now: datetime) -> bool:
        next_time = self._next_time(priority_class)
        return next_time is not None and next_time <= now

    def _send_due(self, priority_class: PriorityClass, now: datetime) -> float:
        lost = 0
        with self._database.write() as session:
            if priority_class.expires_runs:
                lost = queue.expire(session, now=now, resync=self._resync)
            claims, built = self._claim(session, priority_class, now)
        counters.RUNS.labels(RunState.LOST.value).inc(lost)
        # Committed first: the report must find its run, however fast the worker is.
        if not self._send(claims, built, self._app.producer_pool):
            return _BROKER_RETRY
        return 0.0

    def _claim(
        self, session: Session, priority_class: PriorityClass, now: datetime
    ) -> tuple[Sequence[Claim], Sequence[ReconcileRequest]]:
        """Start runs of what is due, and build their requests."""
        claims = queue.claim(
            session,
            now=now,
            limit=_BATCH,
            timeout=self._run_timeout,
            lowest=priority_class.lowest,
            highest=priority_class.highest,
        )
        return claims, requests.build(session, claims, self._terms, now)

    def _next_time(self, priority_class: PriorityClass) -> datetime | None:
        """When a step of this lane will next have something to do."""
        with self._database.read() as session:
            times = [
                queue.next_time(
                    session, lowest=priority_class.lowest, highest=priority_class.highest
                )
            ]
            if priority_class.expires_runs:
                times.append(queue.next_deadline(session))
        return min((each for each in times if each is not None), default=None)

    def _send(
        self, claims: Sequence[Claim], built: Sequence[ReconcileRequest], producers: ProducerPool
    ) -> bool:
        """Send requests all at once; if that fails, give all back, for nobody knows which were taken.

        One that was taken all the same costs a run that nobody waits for.

        Raises:
            LeaseLostError: another may lead by now; none was sent.
        """
        if not built:
            return True
        nodes = {claim.node_id for claim in claims}
        leftover = {claim.node_id for claim in claims if claim.leftover} | (nodes & self._unsure)
        try:
            with producers.acquire(block=True, timeout=_BROKER_RETRY) as producer:
                for node_id in leftover:
                    producer.channel.queue_purge(node_queue(node_id))
                with producer.batch():
                    for request in built:
                        self._app.send_task(
                            RECONCILE_TASK,
                            args=[request.model_dump(mode="json")],
                            argsrepr=_NOT_LOGGED,
                            queue=queue_for_node(request.node_id),
                            declare=[],
                            expires=request.deadline,
                            producer=producer,
                        )
                    self._fence()  # Raises if another may lead by now; then none of these is sent.
                let_expire(producer.channel, nodes)
        except LeaseLostError:
            # It is not the broker's fault. If another leads already this raises as well, and the runs are
            # that one's to close.
            self._unclaim(claims)
            raise
        except Exception as error:  # noqa: BLE001 -- whatever the broker's client raises
            log.warning("broker unreachable, will try again", error=str(error))
            counters.BROKER_UP.set(0)
            self._away = True
            self._unsure |= nodes
            self._unclaim(claims)
            return False
        counters.BROKER_UP.set(1)
        self._away = False
        self._unsure -= nodes
        for claim in claims:
            log.debug("request sent", run_id=str(claim.run_id), node_id=claim.node_id)
        return True

    def _unclaim(self, claims: Sequence[Claim]) -> None:
        """Ask again for what could not be sent."""
        with self._database.write() as session:
            for claim in claims:
                queue.unclaim(session, claim.run_id, now=self._utcnow())
