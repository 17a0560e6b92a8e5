"""Sending requests: claim due nodes, build each one's request, put it on the node's queue."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from celery import Celery
from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.broker import queue_for_node
from contract.messages import Acknowledgement, DesiredNetwork, NetworkRef, ReconcileRequest
from contract.queues import RECONCILE_TASK
from contract.verdicts import Mode
from controller import due
from controller.database import Database
from controller.due import Claim
from controller.models import Attachment, Cluster, Device, Network, NetworkVni, Node

log = structlog.get_logger(__name__)

_BATCH: Final = 100
_LONGEST_WAIT: Final = 1.0
"""Seconds between looks at the database: another process may have asked for a node."""
_BROKER_RETRY: Final = 1.0

CLOCKS_MAY_DIFFER: Final = timedelta(seconds=60)
"""What a request's deadline is later than its run's: a node whose clock is off shall work all the same.

A run that comes after the controller gave it up does no harm; one from last week is to be refused.
"""


class Dispatcher:
    """Turns due rows into messages. One thread runs it.

    Args:
        database: where the rows are.
        app: where the messages go.
        mode: what workers may do.
        run_timeout: how long a run's report may take.
        resync: how long a node may go without a run.
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
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._app = app
        self._mode = mode
        self._run_timeout = run_timeout
        self._resync = resync
        self._utcnow = utcnow
        self._doorbell = threading.Event()

    def ring(self) -> None:
        """Say that something may have become due."""
        self._doorbell.set()

    def wait(self) -> None:
        """Wait for the doorbell, the next due time, or a second, whichever is first."""
        with self._database.read() as session:
            due_at = due.next_time(session)
        left = _LONGEST_WAIT
        if due_at is not None:
            left = min(left, (due_at - self._utcnow()).total_seconds())
        if left > 0:
            self._doorbell.wait(left)
        self._doorbell.clear()

    def step(self) -> float:
        """Close what is lost, send what is due; return for how many seconds the broker wants peace."""
        now = self._utcnow()
        with self._database.write() as session:
            due.expire(session, now=now, resync=self._resync)
            if session.get(Cluster, 1) is None:
                return 0.0  # Nothing is known of the Swarm yet.
            claims = due.claim(session, now=now, limit=_BATCH, timeout=self._run_timeout)
            requests = self._requests(session, claims, now)
        # Committed first: the report must find its run, however fast the worker is.
        for number, request in enumerate(requests):
            try:
                self._send(request)
            except Exception as error:  # noqa: BLE001 -- whatever the broker's client raises
                log.warning("broker unreachable, will try again", error=str(error))
                with self._database.write() as session:
                    for unsent in requests[number:]:
                        due.give_back(session, unsent.run_id, now=self._utcnow())
                return _BROKER_RETRY
        if len(claims) == _BATCH:
            self.ring()
        return 0.0

    def _send(self, request: ReconcileRequest) -> None:
        self._app.send_task(
            RECONCILE_TASK,
            args=[request.model_dump(mode="json")],
            queue=queue_for_node(request.node_id),
            expires=request.deadline,
        )
        log.debug("request sent", run_id=str(request.run_id), node_id=request.node_id)

    def _requests(
        self, session: Session, claims: Sequence[Claim], now: datetime
    ) -> list[ReconcileRequest]:
        if not claims:
            return []
        ids = [claim.node_id for claim in claims]
        desired: defaultdict[str, dict[str, DesiredNetwork]] = defaultdict(dict)
        known: defaultdict[str, dict[str, NetworkRef]] = defaultdict(dict)
        attached = (
            select(Attachment.node_id, Network, Attachment.running)
            .join(Network, Network.id == Attachment.network_id)
            .where(Attachment.node_id.in_(ids))
        )
        # A device that becomes an orphan was reported as settling before: so the networks of the
        # VNIs that the node has shown are all that its worker may have to name.
        shown = (
            select(Device.node_id, Network)
            .join(NetworkVni, NetworkVni.vni == Device.vni)
            .join(Network, Network.id == NetworkVni.network_id)
            .where(Device.node_id.in_(ids), Network.gone_at.is_(None))
        )
        for node_id, network, running in session.execute(attached):
            desired[node_id][network.id] = DesiredNetwork(**_reference(network), running=running)
        for node_id, network in session.execute(shown):
            known[node_id][network.id] = NetworkRef(**_reference(network))
        cluster = session.get_one(Cluster, 1)
        nodes = {node.id: node for node in session.scalars(select(Node).where(Node.id.in_(ids)))}
        return [
            ReconcileRequest(
                run_id=claim.run_id,
                node_id=claim.node_id,
                generation=nodes[claim.node_id].generation,
                issued_at=now,
                deadline=claim.deadline + CLOCKS_MAY_DIFFER,
                mode=self._mode,
                data_path_port=cluster.data_path_port,
                desired=tuple(desired[claim.node_id].values()),
                known=tuple(
                    network
                    for id_, network in known[claim.node_id].items()
                    if id_ not in desired[claim.node_id]
                ),
                acknowledged=_acknowledgement(nodes[claim.node_id]),
            )
            for claim in claims
        ]


def _reference(network: Network) -> dict[str, Any]:
    vnis = tuple(row.vni for row in network.vnis)
    return {"id": network.id, "name": network.name[:255], "vnis": vnis}


def _acknowledgement(node: Node) -> Acknowledgement | None:
    if node.journal_id is None:
        return None
    return Acknowledgement(journal_id=node.journal_id, through=node.journal_through)
