"""Storing reports: one closes its run, and brings devices, audit rows and the journal's progress.

All of a report is stored in one transaction, together with waiting reports of other nodes: a commit and a
statement cost the same for one as for many. Storing a report twice changes nothing: a run closes once, a
journal entry makes one audit row, devices are those of the newest report.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.messages import ReconcileReport
from contract.runtime.throttle import Throttle
from contract.signing.envelope import Opened
from contract.verdicts import Outcome, Verdict
from controller.audit import budget, report_entries
from controller.audit.append import Entry, append
from controller.audit.clocks import credible
from controller.db.engine import Database, is_away
from controller.db.models import Network, Node, Run
from controller.db.states import RunState
from controller.leadership.lease import LeaseLostError
from controller.runs import counters, devices, removals, seen
from controller.runs.pace import Pace
from controller.safety import breaker
from controller.safety.breaker import DEFAULTS, BreakerLimits
from controller.swarm.healing import note_removed
from controller.swarm.readings import Readings
from controller.workqueue import under_way
from controller.workqueue.priorities import Priority
from controller.workqueue.queue import Notify
from controller.workqueue.under_way import OpenRun

log = structlog.get_logger(__name__)

_STATES = {
    Outcome.DONE: RunState.SUCCEEDED,
    Outcome.FAILED: RunState.FAILED,
    Outcome.REFUSED: RunState.REFUSED,
}

_SOON: Final = timedelta(seconds=2)
"""The dispatcher finds later due times by its own polling; a notification costs it some statements."""


_LOG_SECONDS: Final = 10.0
"""Between two lines of the log about late reports of one node, which may send any number."""


class _Closed(NamedTuple):
    """A run that was closed.

    Attributes:
        removed: removals that count.
        seconds: since its request.
        recorded: whether the audit trail has rows of it.
    """

    removed: int
    seconds: float
    recorded: bool


class ReportIntake:
    """Stores reports from the queue `controller`.

    Args:
        resync: maximum time between runs of a node.
        readings: receives the workers' stamps, and the nodes for which the Swarm is to be read.
        expect: called with a node and whether a rejected task is expected there.
        pace: bounds the runs that workers ask for.
        notify: called when a node became due.
        taken: called with a report that is stored, and whether the audit trail has rows of it.
    """

    def __init__(
        self,
        database: Database,
        *,
        resync: timedelta,
        readings: Readings | None = None,
        expect: Callable[[str, bool], None] = lambda *_: None,
        pace: Pace | None = None,
        limits: BreakerLimits = DEFAULTS,
        notify: Notify,
        taken: Callable[[ReconcileReport, bool], None] = lambda *_: None,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._readings = readings or Readings()
        self._expect = expect
        self._pace = pace or Pace()
        self._late = Throttle(_LOG_SECONDS)
        self._resync = resync
        self._limits = limits
        self._notify = notify
        self._taken = taken
        self._utcnow = utcnow

    def reports(self, opened: Sequence[Opened[ReconcileReport]]) -> None:
        """Store reports, in one transaction where possible.

        Raises:
            SQLAlchemyError, LeaseLostError: the database is away, or another controller leads: some were not
                stored, and all may be given again.
        """
        for one in opened:
            self._readings.add_stamp(one.payload.node_id, one.payload.stamp)
        while opened:
            # One of one node: the second is compared with the state that the first has left.
            batch = {one.payload.node_id: one for one in reversed(opened)}
            opened = [one for one in opened if batch[one.payload.node_id] is not one]
            self._take(list(batch.values()))

    def _take(self, batch: Sequence[Opened[ReconcileReport]]) -> None:
        """Store reports of different nodes; one that cannot be stored does not keep out the others."""
        try:
            with self._database.write() as session:
                closed, removed, soon = self._close(session, batch)
        except Exception as error:
            if is_away(error) or isinstance(error, LeaseLostError):
                raise
            if len(batch) == 1:
                counters.count_dropped(counters.NOT_STORED)
                log.exception(
                    "dropped a report that cannot be stored", node_id=batch[0].payload.node_id
                )
                return
            log.warning("reports cannot be stored together, going one by one", reports=len(batch))
            for one in batch:
                self._take([one])
            return
        for priority in soon:
            self._notify(priority)
        for one in batch:
            report = one.payload
            if report.run_id in closed:
                run = closed[report.run_id]
                counters.count_run(_STATES[report.outcome], run.removed, run.seconds)
                self._taken(report, run.recorded)
                self._expect(report.node_id, report.expects_rejection)
                if report.wants_reading and not self._pace.wait(report.node_id):
                    self._readings.request(report.node_id, then_run=report.then_run)
            else:
                removed += self._take_late(one)
        if removed:
            with self._database.write() as session:
                breaker.check(session, self._limits, self._utcnow())

    def _take_late(self, late: Opened[ReconcileReport]) -> int:
        """Store a report whose run is not under way; drop it if it cannot be stored.

        Returns:
            The number of removals that it adds to runs.
        """
        try:
            with self._database.write() as session:
                removed, stored = self._store_late(session, late)
        except Exception as error:
            if is_away(error) or isinstance(error, LeaseLostError):
                raise
            counters.count_dropped(counters.NOT_STORED)
            log.exception(
                "dropped a late report that cannot be stored", node_id=late.payload.node_id
            )
            return 0
        if stored:
            self._taken(late.payload, True)
        return removed

    def _close(
        self, session: Session, batch: Sequence[Opened[ReconcileReport]]
    ) -> tuple[Mapping[UUID, _Closed], int, set[Priority]]:
        """Store the reports whose runs are under way, and close these runs.

        Returns:
            The closed runs; the removals that the reports add to these and earlier runs; and the priorities
            of their nodes that are due before the dispatcher polls.
        """
        now = self._utcnow()
        reports = [one.payload for one in batch]
        given = {one.payload.node_id: one for one in batch}
        found = under_way.open_runs(
            session, [report.run_id for report in reports], given_up_after=now - under_way.LATE
        )
        closing = [
            report
            for report in reports
            if report.run_id in found and found[report.run_id].node.id == report.node_id
        ]
        looked = [report for report in closing if _has_looked(report)]
        changes = devices.store(session, looked, now)
        entries: list[Entry] = []
        removed = 0
        for report in closing:
            open_run = found[report.run_id]
            self._pace.ran(report.node_id, len(report.devices))
            if open_run.run.state is RunState.LOST:
                log.warning(
                    "a report came late: its run had been given up",
                    run_id=str(report.run_id),
                    node_id=report.node_id,
                    seconds=round((now - open_run.run.requested_at).total_seconds(), 1),
                    hint="find out why the node or the broker is slow, or raise "
                    "VXLAN_OPERATOR_RUN_TIMEOUT_SECONDS",
                )
            _heard(open_run.node, given[report.node_id], now)
            removed += removals.note(session, open_run.node, report)
            allowed = budget.allow(
                session, open_run.node, report, changes.get(report.node_id, ()), now
            )
            _acknowledge(open_run.node, allowed.report, asked=True)
            under_way.close(
                open_run,
                _STATES[report.outcome],
                now=now,
                resync=self._resync,
                recheck=self._recheck(report),
                error=report.error,
            )
            _note(session, open_run, report, now)
            if gone := _removal_times(report, open_run.run, now):
                note_removed(session, open_run.node.id, open_run.run.id, gone, now)
            entries += report_entries.entries(
                session,
                open_run.node,
                allowed.report,
                allowed.changes,
                kid=given[report.node_id].kid,
                now=now,
            )
            entries += allowed.left_out
        # Last: other writers of audit rows wait for the end of the chain from here on.
        stored = append(session, entries, now)
        for report in closing:
            run = found[report.run_id].run
            # One line per run of thousands of nodes without orphans would hide the others.
            write = log.info if run.orphans or run.error else log.debug
            write(
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
        closed = {}
        for report in closing:
            run = found[report.run_id].run
            recorded = bool(report.entries or changes.get(report.node_id))
            seconds_taken = (now - run.requested_at).total_seconds()
            closed[run.id] = _Closed(run.removed, seconds_taken, recorded)
        rows = [found[report.run_id].due for report in closing]
        due_soon = [row for row in rows if row.due_at is not None and row.due_at - now < _SOON]
        return (
            closed,
            removed,
            {Priority(row.priority) for row in due_soon},
        )

    def _recheck(self, report: ReconcileReport) -> timedelta | None:
        wait = self._pace.wait(report.node_id)
        if report.recheck_after is None:
            # Too early for the reading that it wants: the next run wants it again.
            return wait if wait and report.wants_reading else None
        return max(timedelta(seconds=min(report.recheck_after, 3600.0)), wait)

    def _store_late(self, session: Session, late: Opened[ReconcileReport]) -> tuple[int, int]:
        """Store what is still of use in a report whose run is not under way (any more).

        Returns:
            The number of removals that it adds to runs, and of its audit rows.
        """
        now, report = self._utcnow(), late.payload
        tells = self._late.is_due(report.node_id)
        # Without the key: neither this nor a transaction that inserts a run of the node waits for the other.
        node = session.get(Node, report.node_id, with_for_update={"key_share": True})
        if node is None:
            if tells:
                log.warning("report of a node that is not in the Swarm", node_id=report.node_id)
            return 0, 0
        run = session.get(Run, report.run_id)
        if run is not None and run.node_id == node.id and run.state is RunState.LOST:
            # Any other may be about a run of long ago, or of another node. What this one says of its worker
            # may be long over, too.
            seen.note(node, late, now)
        # What it removed is removed all the same: the breaker counts it.
        removed = removals.note(session, node, report)
        allowed = budget.allow(session, node, report, (), now)
        report = allowed.report
        _acknowledge(node, report, asked=False)
        entries = report_entries.entries(session, node, report, (), kid=late.kid, now=now)
        stored = append(session, [*entries, *allowed.left_out], now)
        if tells:
            log.info(
                "report of a run that is not under way",
                run_id=str(report.run_id),
                node_id=report.node_id,
                audit_rows=stored,
            )
        return removed, stored


def _has_looked(report: ReconcileReport) -> bool:
    """Whether its devices are all the node has."""
    return report.outcome is Outcome.DONE or (
        report.outcome is Outcome.FAILED and bool(report.devices)
    )


def _heard(node: Node, opened: Opened[ReconcileReport], now: datetime) -> None:
    """Store that the node's worker lives."""
    report = opened.payload
    seen.note(node, opened, now)
    node.worker_version = report.worker_version
    node.max_removals = report.max_removals
    if node.controller_keys != list(report.controller_keys):
        node.controller_keys = list(report.controller_keys)


def _note(session: Session, found: OpenRun, report: ReconcileReport, now: datetime) -> None:
    """Store what a report says of the run that it closed."""
    node, _, run = found
    run.started_at, run.finished_at = (
        credible(at, now=now, earliest=run.requested_at)
        for at in (report.started_at, report.finished_at)
    )
    # No later one than was asked for: a node cannot be reconciled with what is not yet known.
    generation = min(report.generation, run.generation)
    node.attempted_generation = max(node.attempted_generation, generation)
    node.last_error = report.error
    if report.outcome is Outcome.REFUSED:
        return
    if _has_looked(report):
        node.looked_at = run.closed_at
    run.devices = len(report.devices)
    run.orphans = sum(device.verdict is Verdict.ORPHAN for device in report.devices)
    node.limitations = list(report.limitations)
    node.missing = _names(session, report.missing)
    if report.outcome is Outcome.DONE:
        node.converged_generation = max(node.converged_generation, generation)


def _removal_times(report: ReconcileReport, run: Run, now: datetime) -> Mapping[int, datetime]:
    """VNIs of the devices that a report's run removed, to the times that its journal has."""
    # The first counts: a removal is verified after it.
    gone = [entry for entry in report.entries if entry.stage in removals.GONE]
    times = {entry.identity: entry.at for entry in reversed(gone)}
    return {
        identity.vni: credible(
            times.get(identity, report.finished_at), now=now, earliest=run.requested_at
        )
        for identity in (device.identity for device in report.devices if device.removed)
    }


def _names(session: Session, networks: Sequence[str]) -> list[str]:
    if not networks:
        return []
    rows = session.execute(select(Network.id, Network.name).where(Network.id.in_(networks)))
    names: dict[str, str] = {row.id: row.name for row in rows}
    # Others are not stored: a message has room for twenty thousand.
    return [names[id_] for id_ in networks if id_ in names]


def _acknowledge(node: Node, report: ReconcileReport, *, asked: bool) -> None:
    """Store up to where the journal is stored: as far as this report's entries have no gap.

    A report holds the oldest entries that its worker still has. So its end counts even if it is lower than
    the stored one: repeated entries are stored once, and a forged number does not last. Its first entry may
    follow a gap: what lay before was acknowledged, and this database was restored from a backup since. That
    is believed only of a run that is under way (`asked`), or anybody could make a worker forget entries that
    are stored nowhere. Any other report, which may be one of long ago, takes nothing back.
    """
    if report.journal_id is None:
        return
    if not asked and node.journal_id not in (None, report.journal_id):
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
    node.journal_through = through if asked else max(through, node.journal_through)
