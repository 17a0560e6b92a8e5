"""How many removals of a run are believed: those in its node's journal, within what was allowed.

A report's flags alone count nothing: a node that lies could trip the cluster's breaker with them.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from contract.messages import DeviceIdentity, ReconcileReport
from contract.verdicts import Stage
from controller.audit.report_entries import own_runs
from controller.db.audit_models import AuditRow
from controller.db.models import Node, Run

GONE: Final = (Stage.APPLIED, Stage.VERIFIED)
"""A removal whose answer was lost is uncertain first, and then verified."""
_RECORDED: Final = select(
    AuditRow.netns, AuditRow.ifindex, AuditRow.name, AuditRow.vni, AuditRow.port
).where(
    AuditRow.run_id == bindparam("run_id"),
    AuditRow.node_id == bindparam("node_id"),
    AuditRow.stage.in_(GONE),
)
_Identities = set[tuple[object, ...]]


def note(session: Session, node: Node, report: ReconcileReport) -> int:
    """Count the removals that the entries of a report record; return the new ones of all its runs.

    To be called before the entries are stored.
    """
    recorded = _recorded(report)
    # A node speaks only of its own runs; the history may have lost some since.
    runs = own_runs(session, node, recorded)
    return sum(_note(session, run, recorded[run_id]) for run_id, run in runs.items())


def _recorded(report: ReconcileReport) -> Mapping[UUID, _Identities]:
    """Run id to the devices that its entries say were removed."""
    found: defaultdict[UUID, _Identities] = defaultdict(set)
    for entry in report.entries:
        if entry.stage in GONE:
            found[entry.run_id].add(_key(entry.identity))
    return found


def _note(session: Session, run: Run, identities: _Identities) -> int:
    if not run.max_removals:
        return 0
    before = run.removed
    # Entries that come again, or the rest of a run whose first entries came before.
    stored = session.execute(_RECORDED, {"run_id": run.id, "node_id": run.node_id})
    recorded = len(identities | {tuple(row) for row in stored})
    # Of a storm the entries come in several reports, and some before they are stored.
    run.removed = max(before, min(recorded, run.max_removals))
    return run.removed - before


def _key(identity: DeviceIdentity) -> tuple[object, ...]:
    return (identity.netns, identity.ifindex, identity.name, identity.vni, identity.port)
