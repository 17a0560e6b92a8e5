"""The metrics: counters of this process, and gauges read from the database at each scrape.

No metric has a label for a single node, network or device: those are in the API. A database that hangs delays
a scrape by at most `TIMEOUT_SECONDS`: its gauges are then left out, and `vxlan_operator_database_up` is 0.
docs/metrics.md lists all.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import UTC, datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import event, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from contract import VERSION
from controller.conditions.model import Type
from controller.db.audit_models import AuditHead
from controller.db.engine import Database
from controller.db.models import Cluster, Device, DueNode, Lease, Node
from controller.runs.counters import BROKER_UP, DATABASE_ERRORS, PREFIX, REMOVALS, RUNS
from controller.workqueue import queue

TIMEOUT_SECONDS: Final = 5.0
_NODE_TYPES: Final = (Type.READY, Type.DEGRADED, Type.STALLED, Type.PAUSED)


def registry(database: Database, leading: Callable[[], bool]) -> CollectorRegistry:
    """Return all metrics of this process; `leading`: whether it leads."""
    made = CollectorRegistry(auto_describe=False)
    for counter in (RUNS, REMOVALS, DATABASE_ERRORS, BROKER_UP):
        made.register(counter)
    made.register(FromDatabase(database, leading))
    ProcessCollector(registry=made)
    if not event.contains(database.engine, "handle_error", _count_error):
        event.listen(database.engine, "handle_error", _count_error)
    return made


def _count_error(_context: Any) -> None:
    DATABASE_ERRORS.inc()


class FromDatabase(Collector):
    """Gauges that are read from the database when they are asked for.

    Args:
        database: where to read.
        leading: whether this process leads.
        timeout: seconds that a scrape waits for the database.
        utcnow: the time of day.
    """

    def __init__(
        self,
        database: Database,
        leading: Callable[[], bool],
        *,
        timeout: float = TIMEOUT_SECONDS,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._leading = leading
        self._timeout = timeout
        self._utcnow = utcnow
        self._lock = threading.Lock()
        self._pending: Future[list[Metric]] | None = None

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        yield _gauge("info", "The version.", ["version"], [((VERSION,), 1)])
        yield _gauge("leading", "Whether this process leads (1 or 0).", [], [((), self._leading())])
        begin = time.monotonic()
        found = self._ask()
        yield _gauge(
            "database_up",
            "Whether the database answered this scrape in time (1 or 0).",
            [],
            [((), found is not None)],
        )
        yield _gauge(
            "database_answer_seconds",
            "How long the database took for this scrape.",
            [],
            [((), time.monotonic() - begin)],
        )
        yield from found or ()

    def _ask(self) -> list[Metric] | None:
        """What the database says; None: nothing in time.

        A question that hangs is not asked again: there is at most one thread that waits.
        """
        with self._lock:
            pending = self._pending
            if pending is None or pending.done():
                pending = self._pending = Future()
                threading.Thread(
                    target=self._answer, args=(pending,), name="metrics", daemon=True
                ).start()
        try:
            return pending.result(self._timeout)
        except (SQLAlchemyError, FutureTimeoutError):
            return None

    def _answer(self, pending: "Future[list[Metric]]") -> None:
        try:
            with self._database.read() as session:
                pending.set_result(list(_read(session, self._utcnow())))
        except BaseException as error:  # noqa: BLE001 -- raised again where the answer is waited for
            pending.set_exception(error)


def _gauge(
    name: str, says: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    made = GaugeMetricFamily(PREFIX + name, says, labels=labels)
    for given, value in values:
        made.add_metric(given, float(value))
    return made


def _read(session: Session, now: datetime) -> Iterator[Metric]:
    yield from _of_nodes(session)
    yield from _of_due_nodes(session, now)
    yield _gauge(
        "devices",
        "VXLAN devices that workers saw last, by verdict and urgency.",
        ["verdict", "urgency"],
        [
            ((verdict.value, "" if urgency is None else urgency.value), count)
            for verdict, urgency, count in session.execute(
                select(Device.verdict, Device.urgency, func.count())
                .join(Node, Node.id == Device.node_id)
                .where(Node.gone_at.is_(None))
                .group_by(Device.verdict, Device.urgency)
            )
        ],
    )
    yield _gauge(
        "audit_position",
        "Rows ever linked to the audit trail's chain.",
        [],
        [((), session.scalar(select(AuditHead.position)) or 0)],
    )
    yield _gauge(
        "leader_fence",
        "Goes up with every change of leader.",
        [],
        [((), fence) for fence in session.scalars(select(Lease.fence))],
    )
    cluster = session.get(Cluster, 1)
    if cluster is not None:
        yield from _of_cluster(cluster, now)


def _of_nodes(session: Session) -> Iterator[Metric]:
    columns = [
        func.coalesce(Node.conditions[(type_.value, part)].as_string(), "Unknown")
        for type_ in _NODE_TYPES
        for part in ("status", "reason")
    ]
    counts: dict[tuple[str, str, str], int] = {}
    total = 0
    for *words, count in session.execute(
        select(*columns, func.count()).where(Node.gone_at.is_(None)).group_by(*columns)
    ):
        total += count
        for at, type_ in enumerate(_NODE_TYPES):
            key = (type_.value, words[2 * at], words[2 * at + 1])
            counts[key] = counts.get(key, 0) + count
    yield _gauge("nodes", "Nodes of the Swarm.", [], [((), total)])
    yield _gauge(
        "node_conditions",
        "Nodes by condition, its status and reason: docs/conditions.md.",
        ["type", "status", "reason"],
        counts.items(),
    )
    yield _gauge(
        "breakers_tripped",
        "Nodes whose breaker has tripped.",
        [],
        [((), _count(session, Node.gone_at.is_(None), Node.breaker_tripped_at.is_not(None)))],
    )


def _count(session: Session, *where: Any) -> int:
    return session.scalar(select(func.count()).select_from(Node).where(*where)) or 0


def _of_due_nodes(session: Session, now: datetime) -> Iterator[Metric]:
    waiting, oldest = queue.waiting(session, now=now)
    age = 0.0 if oldest is None else (now - oldest).total_seconds()
    yield _gauge("due_nodes", "Nodes that are due and wait for a run.", [], [((), waiting)])
    yield _gauge("due_oldest_seconds", "How long the first of them has waited.", [], [((), age)])
    under_way = session.scalar(
        select(func.count()).select_from(DueNode).where(DueNode.run_id.is_not(None))
    )
    yield _gauge("runs_under_way", "Runs sent whose report is awaited.", [], [((), under_way or 0)])


def _of_cluster(cluster: Cluster, now: datetime) -> Iterator[Metric]:
    yield _gauge(
        "cluster_conditions",
        "1 for the status and reason that each condition of the cluster has: docs/conditions.md.",
        ["type", "status", "reason"],
        [
            ((type_, condition["status"], condition["reason"]), 1)
            for type_, condition in cluster.conditions.items()
        ],
    )
    yield _gauge(
        "swarm_age_seconds",
        "How long ago the Swarm was last read whole.",
        [],
        [((), (now - cluster.synced_at).total_seconds())],
    )
    yield _gauge(
        "swarm_read_seconds",
        "How long the manager was asked for the last whole reading.",
        [],
        [] if cluster.sync_seconds is None else [((), cluster.sync_seconds)],
    )
    yield _gauge(
        "swarm_read_share",
        "Which share of the time the manager was asked, lately.",
        [],
        [] if cluster.sync_share is None else [((), cluster.sync_share)],
    )
    yield _gauge(
        "cluster_breaker_tripped",
        "Whether the cluster's breaker has tripped (1 or 0).",
        [],
        [((), cluster.breaker_tripped_at is not None)],
    )
