"""Sending requests: claim due nodes, build each one's request, put it on the node's queue.

The controller is the only producer of a node's queue, but for its worker's own pings, and has one run of a
node at a time. So whatever still waits there belongs to a run that was given up, and is purged first: a node
without a worker never has more than one message, and a worker that comes back gets one run.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import structlog
from celery import Celery
from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.broker import let_expire, queue_for_node
from contract.messages import (
    MAX_NETWORKS,
    Acknowledgement,
    DesiredNetwork,
    NetworkRef,
    ReconcileRequest,
)
from contract.queues import RECONCILE_TASK, node_queue
from contract.verdicts import Mode
from controller import breaker, due, gate, metrics, modes
from controller.breaker import DEFAULTS, Limits
from controller.database import Database
from controller.due import Claim
from controller.models import Attachment, Cluster, Device, Network, NetworkVni, Node
from controller.states import Priority, RunState

log = structlog.get_logger(__name__)


class Lane(NamedTuple):
    """The priorities that one thread sends."""

    least: Priority
    most: Priority


ALL: Final = Lane(Priority.RESYNC, Priority.MANUAL)
BULK: Final = Lane(Priority.RESYNC, Priority.CHANGE)
URGENT: Final = Lane(Priority.DRIFT, Priority.MANUAL)
LANES: Final = (BULK, URGENT)
"""Each in a thread of its own: so what is urgent never waits until a batch of resyncs is sent."""

_BATCH: Final = 200
"""Claims a transaction, and messages a round trip to the broker."""
_NOT_LOGGED: Final = "(...)"
"""Celery would write out the arguments a second time, for logs that we do not keep."""

_LONGEST_WAIT: Final = 1.0
"""Seconds between looks at the database: another process may have asked for a node."""
_BROKER_RETRY: Final = 1.0

CLOCKS_MAY_DIFFER: Final = timedelta(seconds=60)
"""What a request's deadline is later than its run's: a node whose clock is off shall work all the same.

A run that comes after the controller gave it up does no harm; one from last week is to be refused.
"""


class Dispatcher:
    """Turns due rows into messages. A thread a lane runs it.

    Args:
        database: where the rows are.
        app: where the messages go.
        mode: what workers may do, by the settings.
        run_timeout: how long a run's report may take.
        resync: how long a node may go without a run.
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
        fence: Callable[[], int] = lambda: 0,
        limits: Limits = DEFAULTS,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._app = app
        self._mode = mode
        self._run_timeout = run_timeout
        self._resync = resync
        self._fence = fence
        self._limits = limits
        self._utcnow = utcnow
        self._doorbells = {lane: threading.Event() for lane in (ALL, *LANES)}
        self._unsure: set[str] = set()
        """Nodes whose last request the broker may have taken or not."""

    def ring(self) -> None:
        """Say that something may have become due."""
        for doorbell in self._doorbells.values():
            doorbell.set()

    def wait(self, lane: Lane = ALL) -> None:
        """Wait for the doorbell, the lane's next due time, or a second, whichever is first."""
        next_time = self._next_time(lane)
        left = _LONGEST_WAIT
        if next_time is not None:
            left = min(left, (next_time - self._utcnow()).total_seconds())
        if left > 0:
            self._doorbells[lane].wait(left)
        self._doorbells[lane].clear()

    def step(self, lane: Lane = ALL) -> float:
        """Close what is lost, send what is due; return for how many seconds the broker wants peace."""
        now = self._utcnow()
        next_time = self._next_time(lane)
        if next_time is None or next_time > now:
            return 0.0  # Most looks end here, and SQLite's one writer is not held up.
        if lane is URGENT:
            with gate.urgent():
                return self._send_due(lane, now)
        return self._send_due(lane, now)

    def _send_due(self, lane: Lane, now: datetime) -> float:
        lost = 0
        with self._database.write() as session:
            if lane is not URGENT:
                lost = due.expire(session, now=now, resync=self._resync)
            if session.get(Cluster, 1) is None:
                return 0.0  # Nothing is known of the Swarm yet.
            claims = due.claim(
                session,
                now=now,
                limit=_BATCH,
                timeout=self._run_timeout,
                least=lane.least,
                most=lane.most,
            )
            requests = self._requests(session, claims, now)
        metrics.RUNS.labels(RunState.LOST.value).inc(lost)
        # Committed first: the report must find its run, however fast the worker is.
        if not self._send(claims, requests):
            return _BROKER_RETRY
        return 0.0

    def _next_time(self, lane: Lane) -> datetime | None:
        """When a step of this lane will next have something to do."""
        with self._database.read() as session:
            times = [due.next_time(session, least=lane.least, most=lane.most)]
            if lane is not URGENT:
                times.append(due.next_deadline(session))
        return min((each for each in times if each is not None), default=None)

    def _send(self, claims: Sequence[Claim], requests: Sequence[ReconcileRequest]) -> bool:
        """Send requests all at once; if that fails, give all back, for nobody knows which were taken.

        One that was taken all the same costs a run that nobody waits for.
        """
        if not requests:
            return True
        nodes = {claim.node_id for claim in claims}
        leftover = {claim.node_id for claim in claims if claim.leftover} | (nodes & self._unsure)
        try:
            with self._app.producer_or_acquire() as producer:
                for node_id in leftover:
                    producer.channel.queue_purge(node_queue(node_id))
                with producer.batch():
                    for request in requests:
                        if claims[0].priority < URGENT.least:
                            gate.stand_aside()
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
        except Exception as error:  # noqa: BLE001 -- whatever the broker's client raises
            log.warning("broker unreachable, will try again", error=str(error))
            metrics.BROKER_UP.set(0)
            self._unsure |= nodes
            with self._database.write() as session:
                for claim in claims:
                    due.give_back(session, claim.run_id, now=self._utcnow())
            return False
        metrics.BROKER_UP.set(1)
        self._unsure -= nodes
        for claim in claims:
            log.debug("request sent", run_id=str(claim.run_id), node_id=claim.node_id)
        return True

    def _requests(
        self, session: Session, claims: Sequence[Claim], now: datetime
    ) -> list[ReconcileRequest]:
        if not claims:
            return []
        ids = [claim.node_id for claim in claims]
        nodes = {node.id: node for node in session.scalars(select(Node).where(Node.id.in_(ids)))}
        cluster = session.get_one(Cluster, 1)
        desired = _desired(session, ids)
        known = _known(session, ids)
        observed = _observed(session)
        budgets = breaker.budgets(session, ids, self._limits, now)
        fence = self._fence()
        return [
            ReconcileRequest(
                run_id=claim.run_id,
                node_id=claim.node_id,
                generation=nodes[claim.node_id].generation,
                issued_at=now,
                deadline=claim.deadline + CLOCKS_MAY_DIFFER,
                mode=Mode.OBSERVE
                if len(observed) > MAX_NETWORKS
                else modes.of_node(nodes[claim.node_id], cluster, self._mode).mode,
                data_path_port=cluster.data_path_port,
                desired=tuple(desired[claim.node_id].values()),
                known=tuple(
                    network
                    for id_, network in {**observed, **known[claim.node_id]}.items()
                    if id_ not in desired[claim.node_id]
                )[:MAX_NETWORKS],
                acknowledged=_acknowledgement(nodes[claim.node_id]),
                fence=fence,
                next_within=self._next_within(),
                max_removals=budgets[claim.node_id],
            )
            for claim in claims
        ]

    def _next_within(self) -> float:
        """Seconds within which a worker that is reached hears of us again, whatever becomes of its run."""
        longest = max(self._resync * 1.1, due.MAX_BACKOFF) + self._run_timeout
        return longest.total_seconds()


def _desired(session: Session, ids: Sequence[str]) -> Mapping[str, dict[str, DesiredNetwork]]:
    """Node id to the networks that it should carry, by their ids."""
    rows = session.execute(
        select(Attachment.node_id, Attachment.network_id, Attachment.running).where(
            Attachment.node_id.in_(ids)
        )
    ).all()
    networks = _networks(session, {row.network_id for row in rows})
    # Nodes have much in common: each network is built once.
    built = {
        (id_, running): DesiredNetwork(**_reference(network), running=running)
        for id_, network in networks.items()
        for running in (False, True)
    }
    desired: defaultdict[str, dict[str, DesiredNetwork]] = defaultdict(dict)
    for row in rows:
        desired[row.node_id][row.network_id] = built[row.network_id, row.running]
    return desired


def _known(session: Session, ids: Sequence[str]) -> Mapping[str, dict[str, NetworkRef]]:
    """Node id to the networks whose VNIs it has shown, by their ids.

    A device that becomes an orphan was reported as settling before: so these are all that its worker
    may have to name.
    """
    rows = session.execute(
        select(Device.node_id, NetworkVni.network_id)
        .join(NetworkVni, NetworkVni.vni == Device.vni)
        .join(Network, Network.id == NetworkVni.network_id)
        .where(Device.node_id.in_(ids), Network.gone_at.is_(None))
        .distinct()
    ).all()
    networks = _networks(session, {row.network_id for row in rows})
    built = {id_: NetworkRef(**_reference(network)) for id_, network in networks.items()}
    known: defaultdict[str, dict[str, NetworkRef]] = defaultdict(dict)
    for row in rows:
        known[row.node_id][row.network_id] = built[row.network_id]
    return known


def _observed(session: Session) -> Mapping[str, NetworkRef]:
    """The networks that are left alone, by their ids: every node's worker has to know of them.

    Else it would take their orphans for those of no network.
    """
    return {
        network.id: NetworkRef(**_reference(network))
        for network in modes.observed_networks(session)
    }


def _networks(session: Session, ids: Iterable[str]) -> dict[str, Network]:
    found = session.scalars(select(Network).where(Network.id.in_(set(ids))))
    return {network.id: network for network in found}


def _reference(network: Network) -> dict[str, Any]:
    vnis = tuple(row.vni for row in network.vnis)
    mode = modes.of_network(network).mode
    return {"id": network.id, "name": network.name[:255], "vnis": vnis, "mode": mode}


def _acknowledgement(node: Node) -> Acknowledgement | None:
    if node.journal_id is None:
        return None
    return Acknowledgement(journal_id=node.journal_id, through=node.journal_through)
