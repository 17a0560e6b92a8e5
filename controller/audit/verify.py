"""Verification of the hash chain in the database, in bounded steps."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.audit.append import head_of, links
from controller.audit.chain import START, ChainCheck, ChainPosition, Fault, Finding
from controller.db.audit_models import AuditAnchor, AuditRow

ROWS_AT_ONCE: Final = 20_000
"""Rows of a step: some tenths of a second."""

_BATCH: Final = 2_000
_PRUNED: Final = UUID("0f5c3a52-1d5a-5a7e-9b39-6a6d3f1e7c55")


@dataclass(frozen=True, slots=True)
class Progress:
    """The result of a step."""

    began: ChainPosition
    """The end of the step before, or of the pruned rows."""
    reached: ChainPosition
    """The next step begins here."""
    checked: int
    """Number of rows."""
    head: ChainPosition
    """The end of the chain."""
    done: bool
    """Nothing is left to check, or there is a finding."""
    finding: Finding | None


def step(
    session: Session,
    after: ChainPosition | None = None,
    expected: Iterable[ChainPosition] = (),
    rows: int = ROWS_AT_ONCE,
) -> Progress:
    """Check about this number of rows.

    Args:
        session: must not have read anything: it becomes one snapshot.
        after: the end of the step before; None: begin.
        expected: positions that were kept elsewhere and must still be part of the chain.
        rows: the step ends with the batch that reaches this number.
    """
    if session.get_bind().dialect.name == "postgresql":
        # Else each statement has a snapshot of its own, and rows pruned in between look missing.
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    expected = list(expected)
    head, anchor = head_of(session), last_anchor(session)
    began = anchor if after is None or after.position < anchor.position else after
    check = ChainCheck(began, expected)
    finding = None if began is after else _before(session, anchor, expected)
    done = False
    while finding is None and not done and check.end.position - began.position < rows:
        found = links(session, check.end.position, _BATCH)
        finding = check.follow(found)
        done = len(found) < _BATCH
    if finding is None and done:
        finding = _end(check.end, head, expected)
    checked = check.end.position - began.position
    return Progress(began, check.end, checked, head, done or finding is not None, finding)


def last_anchor(session: Session) -> ChainPosition:
    """The end of the pruned rows."""
    anchor = session.execute(
        select(AuditAnchor.position, AuditAnchor.hash)
        .order_by(AuditAnchor.position.desc())
        .limit(1)
    ).one_or_none()
    return START if anchor is None else ChainPosition(anchor.position, anchor.hash)


def pruned_id(position: int) -> UUID:
    """The entry id of the audit row about a pruning up to this position."""
    return uuid5(_PRUNED, str(position))


def _before(
    session: Session, anchor: ChainPosition, expected: Iterable[ChainPosition]
) -> Finding | None:
    """A fault at the beginning of the chain."""
    left = session.execute(
        select(AuditRow.id, AuditRow.position)
        .where(AuditRow.position <= anchor.position)
        .order_by(AuditRow.position)
        .limit(1)
    ).one_or_none()
    if left is not None:
        detail = "its position is before the beginning of the chain"
        return Finding(Fault.INSERTED, left.position, left.id, detail)
    if anchor != START:
        recorded = session.scalar(
            select(AuditRow.evidence).where(AuditRow.entry_id == pruned_id(anchor.position))
        )
        if recorded != str(anchor):
            detail = f"the anchor is {anchor}, the row about that pruning has {recorded or 'gone'}"
            return Finding(Fault.ANCHOR, anchor.position, None, detail)
    for kept in expected:
        if kept.position == anchor.position and kept.hash != anchor.hash:
            detail = f"expected {kept}, here it is {anchor}"
            return Finding(Fault.REWRITTEN, kept.position, None, detail)
        if kept.position < anchor.position:
            detail = f"rows up to {anchor.position} were pruned: give their archives too"
            return Finding(Fault.MISSING, kept.position, None, detail)
    return None


def _end(
    end: ChainPosition, head: ChainPosition, expected: Iterable[ChainPosition]
) -> Finding | None:
    """A fault at the end of the chain."""
    if end != head:
        detail = f"the last row is {end}, the head is {head}: rows were cut off or added by hand"
        return Finding(Fault.HEAD, end.position, None, detail)
    last = max(expected, default=end)
    if last.position > end.position:
        return Finding(
            Fault.MISSING,
            end.position + 1,
            None,
            f"position {last.position} was kept elsewhere, and the chain ends at {end.position}",
        )
    return None
