"""How many audit rows a node may cause: as many as any honest one does, and not as many as fit a disk.

A bucket a node, in its row: it holds `_CAPACITY` rows, and `_PER_HOUR` flow back in. Journal entries beyond
it are not acknowledged, so they come again, and none is lost. Changed verdicts beyond a part of it are left
out, those of foreign devices first; one row an hour says how many. The row that says why a run was requested
costs as much as those that bring it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.messages import JournalEntry, ReconcileReport
from contract.verdicts import Stage, Verdict
from controller.audit import report_entries
from controller.audit.append import Entry, recorded
from controller.audit.report_entries import VerdictChange
from controller.db.audit_models import AuditRow
from controller.db.models import Node
from controller.db.states import CONTROLLER

_FOR_VERDICTS: Final = 2_500
"""A storm of 200 removals in 60 networks changes some 800."""
_CAPACITY: Final = _FOR_VERDICTS + 10_000 + 2_500
"""The rest is for a journal that is full (`worker.journal.MAX_PENDING`), of runs with four entries each."""
_PER_HOUR: Final = 1_000


class Allowed(NamedTuple):
    """What of a report is stored now.

    Attributes:
        report: without the entries that are to come again.
        changes: those that are recorded.
        left_out: the row that says how many were not; or nothing.
    """

    report: ReconcileReport
    changes: Sequence[VerdictChange]
    left_out: Sequence[Entry]


def allow(
    session: Session,
    node: Node,
    report: ReconcileReport,
    changes: Sequence[VerdictChange],
    now: datetime,
) -> Allowed:
    """Take from a node's bucket what a report of it costs, as far as there is enough."""
    if not report.entries and not changes and not node.audit_left_out:
        return Allowed(report, changes, ())
    spent = _spent(node, now)
    entries, cost, begun = _affordable(session, node, report.entries, int(_CAPACITY - spent))
    spent += cost
    opens = bool(changes) and report.run_id not in begun
    room = max(int(_FOR_VERDICTS - spent - opens), 0)
    if len(changes) > room:
        node.audit_left_out += len(changes) - room
        changes = sorted(changes, key=lambda change: change[0].verdict is Verdict.FOREIGN)[:room]
    spent += len(changes) + (opens and bool(changes))
    left_out = _left_out(session, node, now) if node.audit_left_out else ()
    node.audit_spent, node.audit_spent_at = spent + len(left_out), now
    return Allowed(report.model_copy(update={"entries": tuple(entries)}), changes, left_out)


def charge(node: Node, rows: int, now: datetime) -> None:
    """Take rows from a node's bucket that its messages caused, and that are stored in any case."""
    node.audit_spent, node.audit_spent_at = _spent(node, now) + rows, now


def _spent(node: Node, now: datetime) -> float:
    """Return how many rows are missing in the bucket."""
    if node.audit_spent_at is None:
        return 0.0
    # A clock that was put right fills nothing.
    passed = max(now - node.audit_spent_at, timedelta(0))
    return max(node.audit_spent - passed / timedelta(hours=1) * _PER_HOUR, 0.0)


def _affordable(
    session: Session, node: Node, entries: Sequence[JournalEntry], room: int
) -> tuple[Sequence[JournalEntry], int, Collection[UUID]]:
    """Return the entries up to the first one for which there is no room; what is stored takes none.

    Returns:
        The entries; the rows that they cost; and the ids of their runs.
    """
    requests = {
        run_id: report_entries.request_id(run_id)
        for run_id in report_entries.own_runs(session, node, {entry.run_id for entry in entries})
    }
    stored = recorded(session, node.id, [*(entry.id for entry in entries), *requests.values()])
    cost, begun = 0, set[UUID]()
    for number, entry in enumerate(entries):
        request = None if entry.run_id in begun else requests.get(entry.run_id)
        price = (entry.id not in stored) + (request is not None and request not in stored)
        if cost + price > max(room, 0):
            return entries[:number], cost, begun
        cost += price
        begun.add(entry.run_id)
    return entries, cost, begun


def _left_out(session: Session, node: Node, now: datetime) -> Sequence[Entry]:
    """Return the row of this hour, unless it is stored: then the next one says the rest."""
    # By what it is: any entry of any node can have any id.
    stored = select(AuditRow.id).where(
        AuditRow.node_id == node.id,
        AuditRow.stage == Stage.LEFT_OUT,
        AuditRow.at >= now.replace(minute=0, second=0, microsecond=0),
    )
    if session.scalars(stored.limit(1)).first() is not None:
        return ()
    count, node.audit_left_out = node.audit_left_out, 0
    reason = (
        f"{count} changed verdicts of this node are not recorded: it causes more than {_PER_HOUR} audit rows "
        "an hour; find out why so many of its devices change, or whether its key is in other hands"
    )
    return [Entry(stage=Stage.LEFT_OUT, at=now, reason=reason, actor=CONTROLLER, node=node)]
