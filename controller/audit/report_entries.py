"""Audit entries of a report: the request of its run, changed verdicts, journal entries.

The id of an entry derives from its subject: a report that comes again makes the same entries.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.orm import Session, lazyload

from contract.messages import DeviceReport, JournalEntry, ReconcileReport
from contract.verdicts import Stage, Verdict
from controller.audit.append import Entry
from controller.audit.clocks import credible
from controller.db.models import Network, NetworkVni, Node, Run
from controller.db.states import CONTROLLER, SCAN

_FEW: Final = 3
VerdictChange = tuple[DeviceReport, str | None]
"""A device as reported, and the verdict (`orphan/stale`) of the report before; None: the device is new."""


def entries(
    session: Session,
    node: Node,
    report: ReconcileReport,
    changes: Sequence[VerdictChange],
    *,
    kid: str,
    now: datetime,
) -> list[Entry]:
    """The entries of a report; none if it has nothing new. `kid`: of the key that vouches for it.

    The request of a run precedes the findings of the run: the journal may also have those of earlier runs.
    """
    if not report.entries and not changes:
        return []
    networks = _networks(session, report, changes)
    runs = own_runs(session, node, {report.run_id, *(entry.run_id for entry in report.entries)})
    found: list[Entry] = []
    begun: set[UUID] = set()

    def begin(run_id: UUID) -> None:
        if run_id in begun:
            return
        begun.add(run_id)
        run = runs.get(run_id)
        if run is not None:
            found.append(_requested(node, run))
        if run_id == report.run_id:
            found.extend(
                replace(_changed(node, report, change, run, networks, now), key_id=kid)
                for change in changes
            )

    for entry in report.entries:
        begin(entry.run_id)
        happened = _happened(
            node, entry, runs.get(entry.run_id), networks, report.worker_version, now
        )
        found.append(replace(happened, key_id=kid))
    if changes:
        begin(report.run_id)
    return found


@dataclass(frozen=True, slots=True)
class _Networks:
    """Networks, present and gone."""

    by_id: Mapping[str, Network]
    owners: Mapping[int, Network]
    """VNI to the network that has it or had it last."""

    def find(self, network_id: str | None, vni: int) -> Network | None:
        return self.owners.get(vni) if network_id is None else self.by_id.get(network_id)


def _networks(
    session: Session, report: ReconcileReport, changes: Sequence[VerdictChange]
) -> _Networks:
    subjects: list[JournalEntry | DeviceReport] = [*report.entries]
    subjects += [device for device, _ in changes]
    pairs = {(subject.network_id, subject.identity.vni) for subject in subjects}
    ids = {network_id for network_id, _ in pairs if network_id is not None}
    vnis = {vni for _, vni in pairs}
    found = session.execute(
        select(Network, NetworkVni.vni)
        .outerjoin(NetworkVni, NetworkVni.network_id == Network.id)
        .where(NetworkVni.vni.in_(vnis) | Network.id.in_(ids))
        .options(lazyload(Network.vnis))  # Not needed.
        .order_by(Network.gone_at.is_(None), Network.gone_at)
    ).all()
    return _Networks(
        by_id={network.id: network for network, _ in found},
        owners={vni: network for network, vni in found},
    )


def own_runs(session: Session, node: Node, ids: Collection[UUID]) -> Mapping[UUID, Run]:
    """Return those of these runs that are this node's and still stored."""
    # Nearly always it is the run that was just closed, which the session has. A node can name 2,000.
    found = (
        [session.get(Run, run_id) for run_id in ids]
        if len(ids) < _FEW
        else session.scalars(select(Run).where(Run.id.in_(ids), Run.node_id == node.id))
    )
    return {run.id: run for run in found if run is not None and run.node_id == node.id}


def request_id(run_id: UUID) -> UUID:
    """Return the id of the entry that says why a run was requested."""
    return uuid5(run_id, "requested")


def _requested(node: Node, run: Run) -> Entry:
    return Entry(
        id=request_id(run.id),
        stage=Stage.REQUESTED,
        at=run.requested_at,
        reason="; ".join(run.reasons),
        actor=run.actor,
        node=node,
        run_id=run.id,
    )


def _changed(
    node: Node,
    report: ReconcileReport,
    change: VerdictChange,
    run: Run | None,
    networks: _Networks,
    now: datetime,
) -> Entry:
    device, was = change
    identity = device.identity
    before = "first seen" if was is None else f"was {was}"
    after = device.verdict.value if device.urgency is None else f"{device.verdict}/{device.urgency}"
    return Entry(
        id=uuid5(report.run_id, f"{device.verdict.value} {identity.model_dump_json()}"),
        stage=Stage.VERDICT_CHANGED,
        at=credible(report.started_at, now=now),
        reason=f"{before}, now {after}: {device.reason}",
        actor=CONTROLLER if run is None else run.actor,
        node=node,
        network=networks.find(device.network_id, identity.vni),
        network_id=device.network_id,
        identity=identity,
        verdict=device.verdict,
        urgency=device.urgency,
        evidence=device.evidence,
        run_id=report.run_id,
        worker_version=report.worker_version,
    )


def _happened(
    node: Node,
    entry: JournalEntry,
    run: Run | None,
    networks: _Networks,
    worker_version: str,
    now: datetime,
) -> Entry:
    at = credible(entry.at, now=now)
    # A run that is known was no person's scan, whatever its node says.
    scanned_by = entry.scanned_by if run is None else None
    actor = CONTROLLER if run is None else run.actor
    dated = "" if at == entry.at else f" (its node dated this {entry.at:%Y-%m-%d %H:%M:%S} UTC)"
    return Entry(
        id=entry.id,
        stage=entry.stage,
        at=at,
        reason=entry.reason,
        actor=actor if scanned_by is None else SCAN,
        claimed_name=scanned_by,
        node=node,
        network=networks.find(entry.network_id, entry.identity.vni),
        network_id=entry.network_id,
        identity=entry.identity,
        verdict=Verdict.ORPHAN,
        urgency=entry.urgency,
        evidence=entry.evidence + dated,
        run_id=entry.run_id,
        worker_version=worker_version,
    )
