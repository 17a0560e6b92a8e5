"""Taking in what workers say: a report closes its run, a drift hint or a Hello makes its node due.

Everything of one report is stored in one transaction, and taking it in twice changes nothing: a run
closes once, a journal entry makes one audit row, devices are those of the newest report.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from pydantic import ValidationError
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from contract.messages import DeviceIdentity, DeviceReport, Drift, Hello, ReconcileReport
from contract.verdicts import Outcome, Verdict
from controller import breaker, due, metrics
from controller.audit import append as audit
from controller.audit import recorded
from controller.audit.recorded import Change
from controller.breaker import DEFAULTS, Limits
from controller.database import Database
from controller.models import Device, Network, Node, Run
from controller.states import Priority, RunState

log = structlog.get_logger(__name__)

_BY_THE_WATCH: Final = "not told by the link watch"

_STATES = {
    Outcome.DONE: RunState.SUCCEEDED,
    Outcome.FAILED: RunState.FAILED,
    Outcome.REFUSED: RunState.REFUSED,
}

_MOST_OF_A_REASON: Final = 200
"""Characters of what a worker says that become a reason of a run."""


class Intake:
    """The tasks of queue `controller`.

    Args:
        database: where to store.
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
        limits: Limits = DEFAULTS,
        ring: Callable[[], None],
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._resync = resync
        self._limits = limits
        self._ring = ring
        self._utcnow = utcnow

    def report(self, payload: str) -> None:
        """The task `controller.report`."""
        try:
            report = ReconcileReport.model_validate_json(payload)
        except ValidationError as error:
            _dropped("report", error)
            return
        with structlog.contextvars.bound_contextvars(
            run_id=str(report.run_id), node_id=report.node_id
        ):
            with self._database.write() as session:
                run = self._store(session, report)
            if any(each.removed for each in report.devices):
                with self._database.write() as session:
                    breaker.check(session, self._limits, self._utcnow())
            if run is not None:
                metrics.count_run(run.state, run.removed)
            self._ring()

    def drift(self, payload: str) -> None:
        """The task `controller.drift`."""
        try:
            drift = Drift.model_validate_json(payload)
        except ValidationError as error:
            _dropped("drift hint", error)
            return
        first = drift.devices[0]
        more = f" and {len(drift.devices) - 1} more" if len(drift.devices) > 1 else ""
        with self._database.write() as session:
            known = due.request(
                session,
                [drift.node_id],
                at=self._utcnow(),
                priority=Priority.DRIFT,
                reason=f"drift: {first.name} in {first.place}{more} carries nothing",
            )
            if known:
                _store_drift(session, drift, self._utcnow())
        if not known:
            log.warning("drift of a node that is not in the Swarm", node_id=drift.node_id)
        self._ring()

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
                due.request(
                    session,
                    [hello.node_id],
                    at=now,
                    priority=Priority.DRIFT,
                    reason=f"its worker says: {hello.reason[:_MOST_OF_A_REASON]}",
                )
        log.info(
            "Hello of a node that is not in the Swarm" if node is None else "a worker says Hello",
            node_id=hello.node_id,
            reason=hello.reason,
        )
        self._ring()

    def _store(self, session: Session, report: ReconcileReport) -> Run | None:
        """Store it; return the run that it closed."""
        now = self._utcnow()
        # Without the key: whoever inserts a run of this node need not wait for us, nor we for them.
        node = session.get(Node, report.node_id, with_for_update={"key_share": True})
        if node is None:
            log.warning("report of a node that is not in the Swarm")
            return None
        _acknowledge(node, report)
        node.worker_seen_at = now
        node.worker_version = report.worker_version
        run = self._close(session, report, now)
        changes = [] if run is None else _take_in(session, node, run, report, now)
        if run is None:
            _count_late(session, node, report)
        # Last: whoever else takes in a report waits for the end of the audit trail from here on.
        stored = audit.append(session, recorded.entries(session, node, report, changes), now)
        if run is None:
            log.info("report of a run that is not under way", audit_rows=stored)
            return None
        log.info(
            "run taken in",
            outcome=report.outcome,
            devices=run.devices,
            orphans=run.orphans,
            removed=run.removed,
            audit_rows=stored,
            error=report.error,
        )
        return run

    def _close(self, session: Session, report: ReconcileReport, now: datetime) -> Run | None:
        """Close the run; None if it is not under way, or not of the node that reports."""
        return due.finish(
            session,
            report.run_id,
            _STATES[report.outcome],
            now=now,
            resync=self._resync,
            node_id=report.node_id,
            recheck=None
            if report.recheck_after is None
            else timedelta(seconds=min(report.recheck_after, 3600.0)),
            error=report.error,
        )


def _count_late(session: Session, node: Node, report: ReconcileReport) -> None:
    """What a run removed that was given up as lost is removed all the same: the breaker counts it."""
    run = session.get(Run, report.run_id)
    if run is not None and run.node_id == node.id and run.state is RunState.LOST:
        run.removed = _removed(report)


def _removed(report: ReconcileReport) -> int:
    return sum(each.removed for each in report.devices)


def _take_in(
    session: Session, node: Node, run: Run, report: ReconcileReport, now: datetime
) -> Sequence[Change]:
    """Store what the run that was just closed says; return the devices judged otherwise than before."""
    run.started_at, run.finished_at = report.started_at, report.finished_at
    node.attempted_generation = max(node.attempted_generation, report.generation)
    node.last_error = report.error
    if report.outcome is Outcome.REFUSED:
        return []  # It has not looked.
    run.devices = len(report.devices)
    run.orphans = sum(each.verdict is Verdict.ORPHAN for each in report.devices)
    run.removed = _removed(report)
    node.limits = list(report.limits)
    node.missing = _names(session, report.missing)
    if report.outcome is Outcome.DONE:
        node.converged_generation = max(node.converged_generation, report.generation)
    if report.outcome is Outcome.DONE or report.devices:
        return _store_devices(session, report, now)
    return []


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


def _store_drift(session: Session, drift: Drift, now: datetime) -> None:
    """Add the devices that are new: the request that follows can then name their networks."""
    stored = {
        (row.place, row.ifindex)
        for row in session.scalars(select(Device).where(Device.node_id == drift.node_id))
    }
    new = {(each.place, each.ifindex): each for each in drift.devices}
    session.add_all(
        Device(
            node_id=drift.node_id,
            place=each.place,
            ifindex=each.ifindex,
            name=each.name,
            vni=each.vni,
            port=each.port,
            verdict=Verdict.SETTLING,
            reason="the link watch says that it has outstayed the grace period; a run judges it next",
            evidence=_BY_THE_WATCH,
            first_seen_at=now,
            judged_at=now,
        )
        for key, each in new.items()
        if key not in stored
    )


def _store_devices(session: Session, report: ReconcileReport, now: datetime) -> Sequence[Change]:
    """Replace the node's devices by those of this report; return those judged otherwise than before."""
    before = {
        DeviceIdentity.model_construct(
            place=row.place, ifindex=row.ifindex, name=row.name, vni=row.vni, port=row.port
        ): row
        for row in session.scalars(select(Device).where(Device.node_id == report.node_id))
    }
    told = {(each.identity.place, each.identity.ifindex): each for each in report.devices}
    rows = [
        _device(report.node_id, each, before.get(each.identity), now)
        for each in told.values()
        if not each.removed
    ]
    session.execute(delete(Device).where(Device.node_id == report.node_id))
    if rows:
        session.execute(insert(Device), rows)
    return [
        Change(each, was)
        for each in told.values()
        if recorded.is_change(each.verdict, was := _judged(before.get(each.identity)))
    ]


def _judged(row: Device | None) -> Verdict | None:
    """A device's verdict, if a report gave it one: not the link watch's hint."""
    return None if row is None or row.evidence == _BY_THE_WATCH else row.verdict


def _device(
    node_id: str, told: DeviceReport, before: Device | None, now: datetime
) -> dict[str, object]:
    identity = told.identity
    return {
        "node_id": node_id,
        "place": identity.place,
        "ifindex": identity.ifindex,
        "name": identity.name,
        "vni": identity.vni,
        "port": identity.port,
        "verdict": told.verdict,
        "urgency": told.urgency,
        "network_id": told.network_id,
        "reason": told.reason,
        "evidence": told.evidence,
        "first_seen_at": now if before is None else before.first_seen_at,
        "judged_at": now,
    }


def _acknowledge(node: Node, report: ReconcileReport) -> None:
    """Note up to where the journal is stored, as far as it is without a gap."""
    if report.journal_id is None:
        return
    if node.journal_id != report.journal_id:
        # A new journal begins at 1; what an old one still held is lost with its file.
        node.journal_id, node.journal_through = report.journal_id, 0
    for entry in report.entries:
        # The first may follow a gap: an earlier acknowledgement trimmed what lay before it, and this
        # database was restored from a backup since.
        if entry.sequence == node.journal_through + 1 or entry is report.entries[0]:
            node.journal_through = max(node.journal_through, entry.sequence)
