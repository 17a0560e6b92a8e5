"""Sending requests: claim due nodes, and publish each request to its node's queue.

The leader is the only producer of a node's queue, except for the worker's pings, and has one run of a node
at a time. So a message that still waits there belongs to a lost run, and is purged first: a node without a
worker never has more than one message, and a worker that comes back gets one run.
"""

import threading
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from celery import Celery
from kombu.pools import ProducerPool
from sqlalchemy.orm import Session

from contract.messages import ReconcileRequest, SwarmReading
from contract.queues import RECONCILE_TASK, node_queue
from contract.runtime.broker import impatient_producers, let_expire
from contract.runtime.transport import publish
from contract.signing.dates import Dates
from contract.signing.envelope import node_address
from contract.verdicts import Mode
from controller.audit.append import append
from controller.db.engine import Database
from controller.db.states import RunState
from controller.health import faults
from controller.health.live import Health
from controller.health.monitor import Monitor
from controller.leadership.lease import LeaseLostError
from controller.runs import counters, requests
from controller.runs.requests import Terms
from controller.safety.breaker import DEFAULTS, BreakerLimits
from controller.trust.keyring import Keyring
from controller.workqueue import queue, requeue, under_way
from controller.workqueue.priorities import (
    ALL_PRIORITIES,
    BULK,
    PRIORITY_CLASSES,
    URGENT,
    Priority,
    PriorityClass,
)
from controller.workqueue.queue import Claim
from controller.workqueue.requeue import RequeueRequest

log = structlog.get_logger(__name__)

_BATCH: Final = 40
"""Claims per transaction and round trip to the broker: a requeue waits for the transaction in progress."""

_MAX_WAIT_SECONDS: Final = 1.0
"""Between polls of the database, where another process may have made a node due, for a person."""
_BULK_WAIT_SECONDS: Final = 2.0
"""The same for what no person asked for."""
_LONE_WAIT_SECONDS: Final = 5.0
"""The same where this process alone makes nodes due."""
_BROKER_HOLD_SECONDS: Final = 2.0
"""For so long a failure to publish counts more than a test that succeeded."""
_BROKER_RETRY_SECONDS: Final = 1.0
"""Until the next attempt after a failed one, and for a free connection to the broker."""


class Dispatcher:
    """Turns due rows into messages, in one thread per priority class.

    Args:
        database: the leader's.
        keys: sign the requests.
        run_timeout: until a run without a report is lost.
        resync: maximum time between runs of a node.
        reading: returns the newest reading of the Swarm for a node; by default there is none.
        broker: receives the results of publishing.
        alive_every: returns the seconds between signs of life that workers are asked for.
        fence: returns the leader's fence, or raises LeaseLostError.
        asking: called with the nodes to which requests are about to be sent.
        sent: called with claims whose requests the broker has taken.
        lost: called with runs that were closed because no report came.
    """

    def __init__(
        self,
        database: Database,
        app: Celery,
        keys: Keyring,
        *,
        mode: Mode,
        run_timeout: timedelta,
        resync: timedelta,
        reading: Callable[[str], SwarmReading] = lambda _: SwarmReading(),
        fence: Callable[[], int] = lambda: 0,
        broker: Monitor | None = None,
        alive_every: Callable[[], float] | None = None,
        limits: BreakerLimits = DEFAULTS,
        asking: Callable[[Collection[str]], None] = lambda _: None,
        sent: Callable[[Sequence[Claim]], None] = lambda _: None,
        lost: Callable[[Collection[UUID]], None] = lambda _: None,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._app = app
        self._keys = keys
        self._impatient = impatient_producers(app)
        self._run_timeout = run_timeout
        self._resync = resync
        self._fence = fence
        self._broker = broker or Health().broker
        self._terms = Terms(
            mode=mode,
            limits=limits,
            keys=keys,
            fence=fence,
            reading=reading,
            alive_every=alive_every,
            next_within=max(resync * 1.1, queue.MAX_BACKOFF) + run_timeout,
        )
        self._asking, self._sent, self._lost = asking, sent, lost
        self._utcnow = utcnow
        self._dates = Dates()
        classes = (ALL_PRIORITIES, *PRIORITY_CLASSES)
        self._wakeups = {priority_class: threading.Event() for priority_class in classes}
        self._behind: set[PriorityClass] = set()
        """Classes whose last claim was a full batch: more may be due, which need not be asked first."""
        self._known: dict[PriorityClass, datetime | None] = {}
        """The next time of a class for which the last step found nothing to do."""
        # Else this process alone makes nodes due, and it notifies.
        self._alone = not database.is_shared
        self._away = False
        """Whether the last publish failed."""
        self._unsure: set[str] = set()
        """Nodes whose last publish failed, though the broker may have taken it."""

    def notify(self, priority: Priority | None = None, /) -> None:
        """Wake the threads for which a node may be due: with this priority, or None: any."""
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
        """Wait for a notification, the next due time of the class, or the next poll, whichever is first.

        Not at all if the last step left something.
        """
        wakeup = self._wakeups[priority_class]
        if wakeup.is_set() or priority_class in self._behind:
            return
        if priority_class in self._known:
            next_time = self._known[priority_class]
        else:
            next_time = self._next_time(priority_class)
        left = _LONE_WAIT_SECONDS if self._alone else _MAX_WAIT_SECONDS
        if priority_class is BULK:
            left = max(left, _BULK_WAIT_SECONDS)
        if next_time is not None:
            left = min(left, (next_time - self._utcnow()).total_seconds())
        if left > 0:
            wakeup.wait(left)

    def step(self, priority_class: PriorityClass = ALL_PRIORITIES) -> float:
        """Expire lost runs and send due requests; return the backoff in seconds (0: none).

        Raises:
            LeaseLostError: another controller leads, or may; nothing was sent.
        """
        now = self._utcnow()
        notified = self._wakeups[priority_class].is_set()
        self._wakeups[priority_class].clear()
        self._known.pop(priority_class, None)
        if not (priority_class in self._behind or (priority_class is URGENT and notified)):
            next_time = self._next_time(priority_class)
            if next_time is None or next_time > now:
                self._known[priority_class] = next_time
                return 0.0  # Most steps end here, without a write transaction.
        lost: Collection[UUID] = ()
        with self._database.write() as session:
            if priority_class.expires_runs:
                lost = under_way.expire(session, now=now, resync=self._resync)
            claims, built = self._claim(session, priority_class, now)
        if len(claims) == _BATCH:
            self._behind.add(priority_class)
        else:
            self._behind.discard(priority_class)
        counters.RUNS.labels(RunState.LOST.value).inc(len(lost))
        self._lost(lost)
        # Committed first: the report must find its run, however fast the worker is.
        sent = self._send(claims, built, self._app.producer_pool)
        return 0.0 if sent else _BROKER_RETRY_SECONDS

    def _claim(
        self, session: Session, priority_class: PriorityClass, now: datetime
    ) -> tuple[Sequence[Claim], Sequence[ReconcileRequest]]:
        """Claim due nodes, and build their requests."""
        lowest, highest, timeout = *priority_class, self._run_timeout
        claims = queue.claim(
            session, now=now, limit=_BATCH, timeout=timeout, lowest=lowest, highest=highest
        )
        issued_at = self._dates.next(now)
        return claims, requests.build(session, claims, self._terms, now, issued_at=issued_at)

    def _next_time(self, priority_class: PriorityClass) -> datetime | None:
        """The next due time of the class, or deadline of a run."""
        with self._database.read() as session:
            lowest, highest = priority_class
            times = [queue.next_time(session, lowest=lowest, highest=highest)]
            if priority_class.expires_runs:
                times.append(under_way.next_deadline(session))
        return min((time for time in times if time is not None), default=None)

    def _send(
        self, claims: Sequence[Claim], built: Sequence[ReconcileRequest], producers: ProducerPool
    ) -> bool:
        """Publish requests together; if that fails, unclaim all, as it is unknown which were taken.

        A request that was taken all the same costs an unneeded run.

        Raises:
            LeaseLostError: another controller may lead by now; none was sent.
        """
        if not built:
            return True
        nodes = {claim.node_id for claim in claims}
        self._asking(nodes)
        succession = [self._keys.succession] if self._keys.succession else []
        leftover = {claim.node_id for claim in claims if claim.leftover} | (nodes & self._unsure)
        try:
            with producers.acquire(block=True, timeout=_BROKER_RETRY_SECONDS) as producer:
                for node_id in leftover:
                    producer.channel.queue_purge(node_queue(node_id))
                with producer.batch():
                    for request in built:
                        publish(
                            producer,
                            RECONCILE_TASK,
                            self._sealed(request),
                            *succession,
                            queue=node_queue(request.node_id),
                            expires=request.deadline,
                        )
                    self._fence()  # Raises if another may lead by now; then none of these is sent.
                let_expire(producer.channel, nodes)
        except LeaseLostError:
            # Not the broker's fault. If another controller leads already, this raises too: the runs are that
            # one's to close.
            self._unclaim(claims)
            raise
        except Exception as error:  # noqa: BLE001 -- whatever the broker's client raises
            self._broker.failed(faults.of_broker(error), hold=_BROKER_HOLD_SECONDS)
            self._away = True
            self._unsure |= nodes
            self._unclaim(claims)
            return False
        self._broker.succeeded(release=True)
        self._away = False
        self._unsure -= nodes
        self._sent(claims)
        for claim in claims:
            log.debug("request sent", run_id=str(claim.run_id), node_id=claim.node_id)
        return True

    def _sealed(self, request: ReconcileRequest) -> str:
        to = node_address(request.node_id)
        payload = request.model_dump_json()
        return self._keys.signer.seal(payload, audience=to, task=RECONCILE_TASK)

    def _unclaim(self, claims: Sequence[Claim]) -> None:
        with self._database.write() as session:
            for claim in claims:
                under_way.unclaim(session, claim.run_id, now=self._utcnow())
