"""The metrics: counters of this process, and what is read from the database at each scrape.

No metric has a label for a single node, network or device: those are in the API. A database that hangs delays
a scrape by at most `TIMEOUT_SECONDS`: its gauges are then left out, and `vxlan_operator_database_up` is 0.
docs/metrics.md lists all.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import UTC, datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from sqlalchemy import event, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from contract import VERSION
from contract.runtime.refusals import refusals
from contract.signing.refusals import Reason as RefusalReason
from controller.conditions.model import Reason, Status, Stored, Type
from controller.db.audit_models import AuditHead
from controller.db.engine import Database
from controller.db.models import Cluster, Device, DueNode, Lease, Node
from controller.db.notification_models import Delivery, Notice, NotificationTarget
from controller.db.states import DeliveryState
from controller.health.live import Health
from controller.health.monitor import Monitor
from controller.notifications.deliver import ATTEMPTS
from controller.runs import counters
from controller.runs.counters import PREFIX
from controller.safety import suppressed
from controller.swarm import healing
from controller.traces.recorder import RECORDS
from controller.views import queries
from controller.workqueue import queue

TIMEOUT_SECONDS: Final = 5.0
KEPT_SECONDS: Final = 1.0
"""Prometheus scrapes every 15 to 60 s."""
_KEPT_TIMES: Final = 3
"""Of the time that a scrape took: so that scrapes take at most a quarter of a core."""
_OF_PROCESS: Final = (
    counters.RUNS,
    counters.RUN_SECONDS,
    counters.REMOVALS,
    counters.DATABASE_ERRORS,
    counters.DROPPED,
    counters.WATCH_ERRORS,
    counters.TOKENS_REFUSED,
    counters.STREAM_CLIENTS,
    RECORDS,
    ATTEMPTS,
)
_HEALING: Final = {
    healing.Step.REMOVED: (
        "rejected_to_removed_seconds",
        "Time from the first of the rejections in a row to the removal of the device.",
    ),
    healing.Step.RUNNING: (
        "removed_to_running_seconds",
        "Time from the removal to the first of the rejected tasks that runs again.",
    ),
}
_NODE_TYPES: Final = (Type.READY, Type.DEGRADED, Type.STALLED, Type.PAUSED)


def registry(database: Database, leading: Callable[[], bool], health: Health) -> CollectorRegistry:
    """Return all metrics of this process; `leading`: whether it leads."""
    made = CollectorRegistry(auto_describe=False)
    for metric in _OF_PROCESS:
        made.register(metric)
    made.register(FromRefusals())
    made.register(FromDatabase(database, leading, health))
    ProcessCollector(registry=made)
    if not event.contains(database.engine, "handle_error", _count_error):
        event.listen(database.engine, "handle_error", _count_error)
    return made


class Exposition:
    """The metrics as text, which is kept for a while: several scrapers cost little more than one.

    One thread at a time may ask.
    """

    def __init__(
        self, metrics: CollectorRegistry, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics
        self._monotonic = monotonic
        self._text = b""
        self._fresh_until = -math.inf

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        began = self._monotonic()
        if began >= self._fresh_until:
            self._text = generate_latest(self._metrics)
            ended = self._monotonic()
            self._fresh_until = ended + max(KEPT_SECONDS, _KEPT_TIMES * (ended - began))
        return self._text


def _count_error(_context: Any) -> None:
    counters.DATABASE_ERRORS.inc()


class FromRefusals(Collector):
    """Counts what this process refused of what it received."""

    def collect(self) -> Iterator[Metric]:
        counts = refusals.counts
        family = CounterMetricFamily(
            f"{PREFIX}messages_refused",
            "Messages that this process refused, and that did nothing.",
            labels=["reason"],
        )
        for reason in RefusalReason:
            family.add_metric([reason.value], counts.get(reason, 0))
        yield family


class FromDatabase(Collector):
    """Gauges that are read from the database at each scrape.

    Args:
        timeout: seconds that a scrape waits for the database.
    """

    def __init__(
        self,
        database: Database,
        leading: Callable[[], bool],
        health: Health,
        *,
        timeout: float = TIMEOUT_SECONDS,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._leading = leading
        self._health = health
        self._timeout = timeout
        self._utcnow = utcnow
        self._lock = threading.Lock()
        self._pending: Future[list[Metric]] | None = None

    def collect(self) -> Iterator[Metric]:
        yield _gauge("info", "The version.", ["version"], [((VERSION,), 1)])
        yield _value("leading", "Whether this process leads (1 or 0).", self._leading())
        text = "Whether the broker takes messages of this process (1 or 0); NaN: unknown."
        yield _value("broker_up", text, _up(self._health.broker))
        text = "Whether the database takes writes of this process (1 or 0); NaN: unknown."
        yield _value("database_writable", text, _up(self._health.database))
        text = "Whether the audit trail has the newest row that this process saw there."
        yield _value("audit_kept", text, _up(self._health.trail))
        begin = time.monotonic()
        found = self._ask()
        seconds = time.monotonic() - begin
        text = "Whether the database answered this scrape in time (1 or 0)."
        yield _value("database_up", text, found is not None)
        text = "Time that the database took for this scrape."
        yield _value("database_answer_seconds", text, seconds)
        if found is None:
            yield _cluster_conditions(self._health.conditions())
        yield from found or ()

    def _ask(self) -> list[Metric] | None:
        """Read the gauges; None: no answer in time.

        While a read hangs, no other is started: at most one thread waits.
        """
        with self._lock:
            pending = self._pending
            if pending is None or pending.done():
                pending = self._pending = Future()
                work = threading.Thread(None, self._answer, "metrics", (pending,), daemon=True)
                work.start()
        try:
            return pending.result(self._timeout)
        except (SQLAlchemyError, FutureTimeoutError):
            return None

    def _answer(self, pending: "Future[list[Metric]]") -> None:
        try:
            # A database that goes away may be noticed only at the end of the reading.
            with self._database.read() as session:
                found = list(_read(session, self._utcnow(), self._health))
        except BaseException as error:  # noqa: BLE001 -- raised again by `Future.result`
            pending.set_exception(error)
        else:
            pending.set_result(found)


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    gauge = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for label_values, value in values:
        gauge.add_metric(label_values, float(value))
    return gauge


def _value(name: str, text: str, value: float | None) -> Metric:
    """Return a gauge without labels; None: without a value."""
    return _gauge(name, text, [], [] if value is None else [((), value)])


def _read(session: Session, now: datetime, health: Health) -> Iterator[Metric]:
    cluster = session.get(Cluster, 1)
    derived = queries.age(cluster)
    yield from _of_nodes(session, stale=derived.is_stale(now))
    stored = {} if cluster is None else derived.as_of(cluster.conditions, now)
    yield _cluster_conditions(stored | health.conditions())
    waiting, oldest = queue.waiting(session, now=now)
    age = 0.0 if oldest is None else (now - oldest).total_seconds()
    yield _value("due_nodes", "Nodes that are due and wait for a run.", waiting)
    yield _value("due_oldest_seconds", "Time that the first of them has waited.", age)
    under_way = session.scalar(select(func.count(DueNode.run_id)))
    yield _value("runs_under_way", "Runs that were sent and have not reported.", under_way)
    devices = session.execute(
        select(Device.verdict, Device.urgency, Device.proof, func.count())
        .join(Node, Node.id == Device.node_id)
        .where(Node.gone_at.is_(None))
        .group_by(Device.verdict, Device.urgency, Device.proof)
    )
    yield _gauge(
        "devices",
        "VXLAN devices in the last reports, by verdict, urgency and proof.",
        ["verdict", "urgency", "proof"],
        [
            ((verdict, urgency or "", proof or ""), count)
            for verdict, urgency, proof, count in devices
        ],
    )
    yield from _of_healing(session)
    yield from _of_notifications(session, now)
    held = CounterMetricFamily(
        PREFIX + "suppressed",
        "Removals ever held back, by reason: docs/safety.md.",
        labels=["reason"],
    )
    for reason, total in suppressed.totals(session).items():
        held.add_metric([reason.value], total)
    yield held
    position = session.scalar(select(AuditHead.position)) or 0
    yield _value("audit_position", "Rows ever added to the audit trail's chain.", position)
    fence = session.scalar(select(Lease.fence))
    yield _value("leader_fence", "Goes up with every change of leader.", fence)
    if cluster is not None:
        yield from _of_cluster(cluster, now)


def _of_healing(session: Session) -> Iterator[Metric]:
    for step, (name, text) in _HEALING.items():
        counts, total = healing.histogram(session, step)
        family = HistogramMetricFamily(PREFIX + name, text)
        buckets = [
            ("+Inf" if math.isinf(bound) else str(bound), float(count)) for bound, count in counts
        ]
        family.add_metric([], buckets, total)
        yield family


def _of_notifications(session: Session, now: datetime) -> Iterator[Metric]:
    counts = dict.fromkeys(DeliveryState, 0)
    for state, count in session.execute(
        select(Delivery.state, func.count()).group_by(Delivery.state)
    ):
        counts[state] = count
    yield _gauge(
        "notifications",
        "Notifications in the outbox by state; delivered and given up ones as long as they are kept.",
        ["state"],
        [((state.value,), count) for state, count in counts.items()],
    )
    oldest = session.scalar(
        select(func.min(Notice.created_at))
        .join(Delivery, Delivery.notice_id == Notice.id)
        .where(Delivery.done_at.is_(None), Delivery.state == DeliveryState.PENDING)
    )
    age = 0.0 if oldest is None else (now - oldest).total_seconds()
    text = "Age of the oldest notification that no target has taken yet."
    yield _value("notifications_oldest_seconds", text, age)
    failing = session.scalar(select(func.count(NotificationTarget.failing_since)))
    text = "Targets of notifications whose last attempt failed."
    yield _value("notification_targets_failing", text, failing)


def _of_nodes(session: Session, *, stale: bool) -> Iterator[Metric]:
    columns = [
        func.coalesce(Node.conditions[(type_.value, part)].as_string(), "Unknown")
        for type_ in _NODE_TYPES
        for part in ("status", "reason")
    ]
    counts: Counter[tuple[str, str, str]] = Counter()
    total = 0
    there = Node.gone_at.is_(None)
    for *values, count in session.execute(
        select(*columns, func.count()).where(there).group_by(*columns)
    ):
        total += count
        for type_, status, reason in zip(_NODE_TYPES, values[::2], values[1::2], strict=True):
            known = (Status.UNKNOWN, Reason.CONDITIONS_STALE) if stale else (status, reason)
            counts[type_.value, *known] += count
    yield _value("nodes", "Nodes of the Swarm.", total)
    yield _gauge(
        "node_conditions",
        "Nodes by type, status and reason of a condition: docs/conditions.md.",
        ["type", "status", "reason"],
        counts.items(),
    )
    tripped = session.scalar(select(func.count(Node.breaker_tripped_at)).where(there))
    yield _value("breakers_tripped", "Nodes whose breaker has tripped.", tripped)


def _up(monitor: Monitor) -> float:
    """Return 1 if a dependency works, 0 if it does not, NaN if that is unknown."""
    return {Status.TRUE: 1.0, Status.FALSE: 0.0}.get(monitor.observed().condition.status, math.nan)


def _cluster_conditions(conditions: Stored) -> Metric:
    return _gauge(
        "cluster_conditions",
        "1 for the type, status and reason of each condition of the cluster: docs/conditions.md.",
        ["type", "status", "reason"],
        [((type_, row["status"], row["reason"]), 1) for type_, row in conditions.items()],
    )


def _of_cluster(cluster: Cluster, now: datetime) -> Iterator[Metric]:
    if cluster.conditions_at is not None:
        age = (now - cluster.conditions_at).total_seconds()
        yield _value("conditions_age_seconds", "Time since all conditions were derived.", age)
    age = (now - cluster.synced_at).total_seconds()
    yield _value("swarm_age_seconds", "Time since the last full reading of the Swarm.", age)
    text = "Time that the manager took for the last full reading."
    yield _value("swarm_read_seconds", text, cluster.sync_seconds)
    text = "Share of the time in which the manager was asked, lately."
    yield _value("swarm_read_share", text, cluster.sync_share)
    tripped = cluster.breaker_tripped_at is not None
    yield _value(
        "cluster_breaker_tripped", "Whether the cluster breaker tripped (1 or 0).", tripped
    )
