"""The queue between the intake and the collector: nothing that the collector does reaches the intake.

The threads that dispatch, store and read only put something small into a bounded queue. One thread of its own
reads what else it takes from the database, makes the spans and sends them. While the collector is away the
queue fills, and then what comes is dropped and counted.
"""

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from contract.messages import ReconcileReport
from contract.runtime.throttle import Throttle
from contract.verdicts import Outcome
from controller.db.engine import Database
from controller.db.models import Network, Node, Rejection, Run
from controller.traces import spans
from controller.traces.collector import Collector, CollectorError
from controller.traces.finished import Finished
from controller.traces.spans import Span, Subject
from controller.workqueue.priorities import Priority
from controller.workqueue.queue import Claim

log = structlog.get_logger(__name__)

RECORDS: Final = Counter(
    "vxlan_operator_trace_records",
    "Finished runs and recovered tasks for a trace, by what became of their spans.",
    ["result"],
    registry=None,
)
"""`sent`; or `dropped`, for the collector refused them, or was away for too long."""
SENT: Final = "sent"
DROPPED: Final = "dropped"
for _result in (SENT, DROPPED):
    RECORDS.labels(_result)

MAX_WAITING: Final = 1_000
_MAX_SENT: Final = 10_000
"""Requests whose time of sending is remembered: more runs are not under way."""
_BATCH: Final = 50
_WAIT_SECONDS: Final = 1.0
_GATHER_SECONDS: Final = 0.2
_MAX_PAUSE_SECONDS: Final = 30.0
_LOG_SECONDS: Final = 60.0
_MAX_REJECTIONS: Final = 2_000
_CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Lost:
    """A run without a report."""

    run_id: UUID


@dataclass(frozen=True, slots=True)
class _Recovered:
    """A rejected task that runs again, and when that was read."""

    task_id: str
    read_at: datetime


_Record = Finished | _Lost | _Recovered


class Recorder:
    """Takes what happens to runs, and sends the spans to a collector.

    A run gets a trace if somebody or something asked for it (priority drift or higher), if it left audit
    rows, or if it did not succeed: at 5,000 nodes the other resyncs would be noise.
    """

    def __init__(
        self,
        database: Database,
        collector: Collector,
        *,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._collector, self._utcnow = database, collector, utcnow
        self._waiting: queue.Queue[_Record] = queue.Queue(MAX_WAITING)
        self._lock = threading.Lock()
        self._sent: dict[UUID, datetime] = {}
        """When requests of urgent runs were sent, the oldest first."""
        self._records: list[_Record] = []
        """What the spans below are made of; none while that is not done."""
        self._spans: list[Span] | None = None
        self._failures = 0
        self._throttle = Throttle(_LOG_SECONDS, monotonic)
        self._sending = threading.Lock()
        """Held by the thread that makes and sends spans."""

    def sent(self, claims: Iterable[Claim]) -> None:
        """Remember when the broker took these requests, those that somebody asked for."""
        now = self._utcnow()
        with self._lock:
            self._sent.update(
                (claim.run_id, now) for claim in claims if claim.priority >= Priority.DRIFT
            )
            for oldest in list(self._sent)[:-_MAX_SENT]:
                del self._sent[oldest]

    def taken(self, report: ReconcileReport, recorded: bool) -> None:
        """Take a report that is stored; `recorded`: the audit trail has rows of it."""
        sent_at = self._forget(report.run_id)
        if recorded or sent_at is not None or report.outcome is not Outcome.DONE:
            self._put(Finished.of(report, self._utcnow(), sent_at))

    def lost(self, runs: Iterable[UUID]) -> None:
        """Take runs that were closed because no report came."""
        for run_id in runs:
            if self._forget(run_id) is not None:
                self._put(_Lost(run_id))

    def recovered(self, tasks: Iterable[str]) -> None:
        """Take rejected tasks that run again."""
        now = self._utcnow()
        for task_id in tasks:
            self._put(_Recovered(task_id, now))

    def _forget(self, run_id: UUID) -> datetime | None:
        with self._lock:
            return self._sent.pop(run_id, None)

    def _put(self, record: _Record) -> None:
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            RECORDS.labels(DROPPED).inc()
            self._complain("the queue of traces is full")

    def step(self) -> float:
        """Send what waits, or wait a second for something; return the seconds until the next step.

        Raises:
            SQLAlchemyError: the database is away; what was taken is kept.
        """
        with self._sending:
            return self._step(_WAIT_SECONDS)

    def close(self) -> None:
        """Send what waits, at the end; give up after two seconds, whatever the collector does."""
        last = threading.Thread(target=self._send_last, name="last traces", daemon=True)
        last.start()
        last.join(_CLOSE_SECONDS)
        left = len(self._records) + self._waiting.qsize()
        if left:
            log.warning("traces are lost at the end", collector=self._collector.host, records=left)

    def _send_last(self) -> None:
        try:
            with self._sending:
                while (self._records or not self._waiting.empty()) and not self._failures:
                    self._step(0.0)
        except Exception:
            log.exception("the last traces were not sent")

    def _step(self, wait: float) -> float:
        if not self._records:
            self._gather(wait)
        if not self._records:
            return 0.0
        if self._spans is None:
            self._spans = self._made(self._records)
        return self._send(self._spans)

    def _gather(self, seconds: float) -> None:
        """Take what waits; the first after up to `seconds`."""
        try:
            self._records.append(self._waiting.get(timeout=seconds or None, block=seconds > 0))
            while len(self._records) < _BATCH:
                self._records.append(self._waiting.get_nowait())
        except queue.Empty:
            pass

    def _send(self, made: Sequence[Span]) -> float:
        try:
            refused = self._collector.send(made) if made else 0
        except CollectorError as error:
            self._failures += 1
            self._complain(str(error))
            if error.temporary:
                return min(2.0 ** min(self._failures, 10), _MAX_PAUSE_SECONDS)
            self._done(DROPPED)
            return 0.0
        if refused:
            self._complain(f"it refused {refused} of {len(made)} spans")
        elif self._failures:
            log.info("traces are sent again", collector=self._collector.host)
        self._failures = 0
        self._done(SENT)
        return _GATHER_SECONDS

    def _done(self, result: str) -> None:
        RECORDS.labels(result).inc(len(self._records))
        self._records, self._spans = [], None

    def _complain(self, why: str) -> None:
        if self._throttle.is_due():
            log.warning(
                "traces are not sent",
                collector=self._collector.host,
                error=why,
                waiting=self._waiting.qsize() + len(self._records),
            )

    def _made(self, records: Sequence[_Record]) -> list[Span]:
        with self._database.read() as session:
            recovered = {one.task_id: one for one in records if isinstance(one, _Recovered)}
            again = _rejections(session, Rejection.task_id.in_(recovered)) if recovered else []
            finished = {one.run_id: one for one in records if isinstance(one, Finished)}
            lost = {one.run_id for one in records if isinstance(one, _Lost)}
            ids = lost | finished.keys()
            subjects = _subjects(
                session, ids | {one.run_id for one in again if one.run_id}, complete=ids, more=again
            )
        made = []
        for run_id in ids & subjects.keys():
            report = finished.get(run_id)
            # A late report may name the run of another node.
            if report is None or report.node_id == subjects[run_id].run.node_id:
                made += spans.of_run(subjects[run_id], report)
        for rejection in again:
            if rejection.run_id in subjects:
                subject, read_at = subjects[rejection.run_id], recovered[rejection.task_id].read_at
                span = spans.of_recovery(subject, rejection, read_at)
                made += [] if span is None else [span]
        return made


def _subjects(
    session: Session,
    runs: Collection[UUID],
    *,
    complete: Collection[UUID],
    more: Sequence[Rejection],
) -> dict[UUID, Subject]:
    """Return these runs, those of `complete` with their rejections, and names of the networks of all."""
    query = select(Run, Node.hostname).join(Node, Node.id == Run.node_id).where(Run.id.in_(runs))
    found = {run.id: (run, hostname) for run, hostname in session.execute(query)}
    which = [_had(found[run_id][0]) for run_id in complete if run_id in found]
    rejections = _rejections(session, or_(*which)) if which else []
    ids = {one.network_id for one in (*rejections, *more) if one.network_id is not None}
    names = select(Network.id, Network.name).where(Network.id.in_(ids))
    networks = {row.id: row.name for row in session.execute(names)} if ids else {}
    return {
        run.id: Subject(
            run,
            hostname,
            [one for one in rejections if _is_of(one, run)] if run.id in complete else [],
            networks,
        )
        for run, hostname in found.values()
    }


def _had(run: Run) -> ColumnElement[bool]:
    """Condition of a rejection: a run's request had it and its worker could do nothing, or it ended it."""
    still_open = and_(
        Rejection.node_id == run.node_id,
        Rejection.settled_at.is_(None),
        Rejection.seen_at <= run.requested_at,
    )
    return or_(Rejection.run_id == run.id, still_open)


def _is_of(rejection: Rejection, run: Run) -> bool:
    if rejection.run_id is not None:
        return rejection.run_id == run.id
    return rejection.node_id == run.node_id and rejection.seen_at <= run.requested_at


def _rejections(session: Session, which: ColumnElement[bool]) -> Sequence[Rejection]:
    query = select(Rejection).where(which).order_by(Rejection.at, Rejection.task_id)
    return session.scalars(query.limit(_MAX_REJECTIONS)).all()
