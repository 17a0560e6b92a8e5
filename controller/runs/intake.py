"""Taking in what workers say: a report closes its run, a drift hint or a Hello makes its node due.

Everything of one report is stored in one transaction, with those of other nodes that wait: a commit and
a statement cost the same for one as for a hundred. Taking it in twice changes nothing: a run closes
once, a journal entry makes one audit row, devices are those of the newest report.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.messages import Drift, Hello, ReconcileReport
from contract.verdicts import Outcome, Verdict
from controller.audit import report_entries
from controller.audit.append import Entry, append
from controller.db.engine import Database, is_away
from controller.db.models import Network, Node, Run
from controller.db.states import RunState
from controller.leadership.lease import LeaseLostError
from controller.runs import counters, devices
from controller.safety import breaker
from controller.safety.breaker import DEFAULTS, BreakerLimits
from controller.swarm.readings import Readings
from controller.swarm.rejections import settle_removed
from controller.workqueue import queue
from controller.workqueue.priorities import Priority
from controller.workqueue.queue import Notify

log = structlog.get_logger(__name__)

_STATES = {
    Outcome.DONE: RunState.SUCCEEDED,
    Outcome.FAILED: RunState.FAILED,
    Outcome.REFUSED: RunState.REFUSED,
}

_SOON: Final = timedelta(seconds=2)
"""What is due later than this is found by the dispatcher's own looks; a ring costs it some questions."""

_MAX_OF_A_REASON: Final = 200
"""Characters of what a worker says that become a reason of a run."""


class _Closed(NamedTuple):
    """What taking in some reports did.

    Attributes:
        runs: the runs that it closed.
        soon: the priorities of their nodes that are due again before anybody looks for that unasked.
    """

    runs: Collection[UUID]
    soon: Collection[Priority]


class Intake:
    """The tasks of queue `controller`.

    Args:
        database: where to store.
        readings: told of what is heard of each worker, and for which nodes the Swarm is to be read.
        expect: told whether a rejected task is expected on a node.
        resync: how long a node may go without a run.
        ring: called when something may have become due.
        limits: when the breaker trips.
        utcnow: the time of day.
    """

    def __init__(
        self,
        database: Database,
        *,
        resync: timedelta,
        readings: Readings | None = None,
        expect: Callable[[str, bool], None] = lambda *_: None,
        limits: BreakerLimits = DEFAULTS,
        notify: Notify,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._readings = readings or Readings()
        self._expect = expect
        self._resync = resync
        self._limits = limits
        self._notify = notify
        self._utcnow = utcnow

    def report(self, payload: str) -> None:
        """The task `controller.report`, for one report."""
        self.reports([payload])

    def reports(self, payloads: Sequence[str]) -> None:
        """The task `controller.report`, for some at once: in one transaction where that can be.

        Raises:
            SQLAlchemyError, LeaseLostError: the database is away, or another leads: nothing of some was
                stored, and all may be told again.
        """
        told = []
        for payload in payloads:
            report = _read(payload)
            if report is not None:
                self._readings.add_stamp(report.node_id, report.stamp)
                told.append(report)
        while told:
            # One of each node: the second is compared with what the first has left.
            batch = {report.node_id: report for report in reversed(told)}
            told = [report for report in told if batch[report.node_id] is not report]
            self._take(list(batch.values()))

    def _take(self, batch: Sequence[ReconcileReport]) -> None:
        """Take in reports of different nodes; one that cannot be stored does not keep out the others."""
        try:
            with self._database.write() as session:
                closed = self._close(session, batch)
        except Exception as error:
            if is_away(error) or isinstance(error, LeaseLostError):
                raise
            if len(batch) == 1:
                log.exception("dropped a report that cannot be stored", node_id=batch[0].node_id)
                return
            log.warning("reports cannot be stored together, going one by one", reports=len(batch))
            for report in batch:
                self._take([report])
            return
        for priority in closed.soon:
            self._notify(priority)
        for report in batch:
            if report.run_id in closed.runs:
                counters.count_run(_STATES[report.outcome], _removed(report))
                self._expect(report.node_id, report.expects_rejection)
                if report.wants_reading:
                    self._readings.request(report.node_id, then_run=report.then_run)
            else:
                self._take_late(report)
        if any(_removed(report) for report in batch):
            with self._database.write() as session:
                breaker.check(session, self._limits, self._utcnow())

    def _take_late(self, report: ReconcileReport) -> None:
        """Take in a report whose run is not under way; one that cannot be stored holds up no other."""
        try:
            with self._database.write() as session:
                self._store_late(session, report)
        except Exception as error:
            if is_away(error) or isinstance(error, LeaseLostError):
                raise
            log.exception("dropped a late report that cannot be stored", node_id=report.node_id)

    def drift(self, payload: str) -> None:
        """The task `controller.drift`."""
        try:
            drift = Drift.model_validate_json(payload)
        except ValidationError as error:
            _dropped("drift hint", error)
            return
        self._readings.add_stamp(drift.node_id, drift.stamp)
        first = drift.devices[0]
        more = f" and {len(drift.devices) - 1} more" if len(drift.devices) > 1 else ""
        with self._database.write() as session:
            known = queue.request(
                session,
                [drift.node_id],
                at=self._utcnow(),
                priority=Priority.DRIFT,
                reason=f"drift: {first.name} in {first.netns}{more} carries nothing",
            )
            if known:
                devices.store_hint(session, drift, self._utcnow())
        if not known:
            log.warning("drift of a node that is not in the Swarm", node_id=drift.node_id)
        self._notify(Priority.DRIFT)

    def hello(self, payload: str) -> None:
        """The task `controller.hello`."""
        try:
            hello = Hello.model_validate_json(payload)
        except ValidationError as error:
            _dropped("Hello", error)
            return
        now = self._utcnow()
        with self._database.write() as session:
            node = session.get(Node, hello.node_id, with_for_update={"key_share": True})
            if node is not None:
                node.worker_seen_at, node.worker_version = now, hello.worker_version
                queue.request(
                    session,
                    [hello.node_id],
                    at=now,
                    priority=Priority.DRIFT,
                    reason=f"its worker says: {hello.reason[:_MAX_OF_A_REASON]}",
                )
        log.info(
            "Hello of a node that is not in the Swarm" if node is None else "a worker says Hello",
            node_id=hello.node_id,
            reason=hello.reason,
        )
        self._notify(Priority.DRIFT)

    def _close(self, session: Session, batch: Sequence[ReconcileReport]) -> _Closed:
        """Store the reports whose runs are under way, and close these runs."""
        now = self._utcnow()
        found = queue.open_runs(session, [report.run_id for report in batch])
        closing = [
            report
            for report in batch
            if report.run_id in found and found[report.run_id].node.id == report.node_id
        ]
        looked = [report for report in closing if _has_looked(report)]
        changes = devices.store(session, looked, now)
        entries: list[Entry] = []
        for report in closing:
            each = found[report.run_id]
            _heard(each.node, report, now, asked=True)
            queue.close(
                each,
                _STATES[report.outcome],
                now=now,
                resync=self._resync,
                recheck=_recheck(report),
                error=report.error,
            )
            _note(session, each.node, each.run, report)
            gone = {device.identity.vni for device in report.devices if device.removed}
            if gone:
                settle_removed(session, each.node.id, gone, now)
            entries += report_entries.entries(
                session, each.node, report, changes.get(report.node_id, ())
            )
        # Last: whoever else takes in a report waits for the end of the audit trail from here on.
        stored = append(session, entries, now)
        for report in closing:
            run = found[report.run_id].run
            # A line a run and minute, of thousands of nodes where nothing is, would hide the others.
            say = log.info if run.orphans or run.error else log.debug
            say(
                "run taken in",
                run_id=str(run.id),
                node_id=run.node_id,
                outcome=report.outcome,
                devices=run.devices,
                orphans=run.orphans,
                removed=run.removed,
                error=report.error,
            )
        if stored:
            log.info("audit rows stored", rows=stored)
        rows = [found[report.run_id].due for report in closing]
        return _Closed(
            {report.run_id for report in closing},
            soon={
                Priority(row.priority)
                for row in rows
                if row.due_at is not None and row.due_at - now < _SOON
            },
        )

    def _store_late(self, session: Session, report: ReconcileReport) -> None:
        """Store what is still worth it of a report whose run is not under way (any more)."""
        now = self._utcnow()
        # Without the key: whoever inserts a run of this node need not wait for us, nor we for them.
        node = session.get(Node, report.node_id, with_for_update={"key_share": True})
        if node is None:
            log.warning("report of a node that is not in the Swarm", node_id=report.node_id)
            return
        _heard(node, report, now, asked=False)
        run = session.get(Run, report.run_id)
        if run is not None and run.node_id == node.id and run.state is RunState.LOST:
            # What it removed is removed all the same: the breaker counts it.
            run.removed = _removed(report)
        stored = append(session, report_entries.entries(session, node, report, ()), now)
        log.info(
            "report of a run that is not under way",
            run_id=str(report.run_id),
            node_id=report.node_id,
            audit_rows=stored,
        )


def _read(payload: str) -> ReconcileReport | None:
    try:
        return ReconcileReport.model_validate_json(payload)
    except ValidationError as error:
        _dropped("report", error)
        return None


def _has_looked(report: ReconcileReport) -> bool:
    """Whether its devices are what the node has."""
    return report.outcome is Outcome.DONE or (
        report.outcome is Outcome.FAILED and bool(report.devices)
    )


def _recheck(report: ReconcileReport) -> timedelta | None:
    if report.recheck_after is None:
        return None
    return timedelta(seconds=min(report.recheck_after, 3600.0))


def _removed(report: ReconcileReport) -> int:
    return sum(each.removed for each in report.devices)


def _heard(node: Node, report: ReconcileReport, now: datetime, *, asked: bool) -> None:
    """Note what any report says of its worker; `asked`: it answers a run that is under way."""
    _acknowledge(node, report, asked=asked)
    node.worker_seen_at = now
    node.worker_version = report.worker_version


def _note(session: Session, node: Node, run: Run, report: ReconcileReport) -> None:
    """Note what the run that was just closed says."""
    run.started_at, run.finished_at = report.started_at, report.finished_at
    node.attempted_generation = max(node.attempted_generation, report.generation)
    node.last_error = report.error
    if report.outcome is Outcome.REFUSED:
        return  # It has not looked.
    run.devices = len(report.devices)
    run.orphans = sum(each.verdict is Verdict.ORPHAN for each in report.devices)
    run.removed = _removed(report)
    node.limitations = list(report.limitations)
    node.missing = _names(session, report.missing)
    if report.outcome is Outcome.DONE:
        node.converged_generation = max(node.converged_generation, report.generation)


def _names(session: Session, networks: Sequence[str]) -> list[str]:
    if not networks:
        return []
    rows = session.execute(select(Network.id, Network.name).where(Network.id.in_(networks)))
    names: dict[str, str] = {row.id: row.name for row in rows}
    return [names.get(id_, id_) for id_ in networks]


def _dropped(what: str, error: ValidationError) -> None:
    log.error(
        f"dropped a {what} that is not one",  # noqa: G004 -- structlog has no lazy arguments
        errors=error.errors(include_input=False, include_url=False),
    )


def _acknowledge(node: Node, report: ReconcileReport, *, asked: bool) -> None:
    """Note up to where the journal is stored: as far as this report goes without a gap.

    A report holds the oldest entries that its worker still has. So its end counts also where it is lower
    than what was noted before: what comes again is stored once, and a forged number does not last. And its
    first entry may follow a gap: what lay before it was acknowledged, and this database was restored from a
    backup since. But that is believed only of the answer to a run that is under way (`asked`), or anybody
    could have a worker forget what is stored nowhere.
    """
    if report.journal_id is None:
        return
    if node.journal_id != report.journal_id:
        # A new journal begins at 1; what an old one still held is lost with its file.
        node.journal_id, node.journal_through = report.journal_id, 0
    numbers = [entry.sequence for entry in report.entries]
    if not numbers or (numbers[0] > node.journal_through + 1 and not asked):
        return
    through = numbers[0] - 1
    for number in numbers:
        if number != through + 1:
            break
        through = number
    node.journal_through = through
