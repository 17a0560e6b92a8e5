"""Checking the audit trail's hash chain as it is in the database, a bounded piece at a time."""

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
"""How many rows one step looks at: some tenths of a second."""

_BATCH: Final = 2_000
_PRUNED: Final = UUID("0f5c3a52-1d5a-5a7e-9b39-6a6d3f1e7c55")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a check has come.

    Attributes:
        began: where this step began: where the last one ended, or behind what was pruned.
        mark: where the next step goes on.
        checked: how many rows this step looked at.
        head: the end of the chain when it was looked up.
        done: whether there is nothing more to check.
        finding: the first thing that is wrong; then nothing more is checked.
    """

    began: ChainPosition
    mark: ChainPosition
    checked: int
    head: ChainPosition
    done: bool
    finding: Finding | None


def step(
    session: Session,
    after: ChainPosition | None = None,
    expected: Iterable[ChainPosition] = (),
    rows: int = ROWS_AT_ONCE,
) -> Progress:
    """Check up to so many rows.

    Args:
        session: with nothing read in it yet; it sees one moment.
        after: where the step before ended; None: begin.
        expected: places that were kept elsewhere and must still be part of the chain.
        rows: at most so many.
    """
    if session.get_bind().dialect.name == "postgresql":
        # Else each statement sees a moment of its own, and rows pruned in between look missing.
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    expected = list(expected)
    head, anchor = head_of(session), last_anchor(session)
    began = anchor if after is None or after.position < anchor.position else after
    walk = ChainCheck(began, expected)
    finding = None if began is after else _before(session, anchor, expected)
    done = False
    while finding is None and not done and walk.mark.position - began.position < rows:
        found = links(session, walk.mark.position, _BATCH)
        finding = walk.follow(found)
        done = len(found) < _BATCH
    if finding is None and done:
        finding = _end(walk.mark, head, expected)
    checked = walk.mark.position - began.position
    return Progress(began, walk.mark, checked, head, done or finding is not None, finding)


def last_anchor(session: Session) -> ChainPosition:
    """Up to where the chain was pruned."""
    anchor = session.execute(
        select(AuditAnchor.position, AuditAnchor.hash)
        .order_by(AuditAnchor.position.desc())
        .limit(1)
    ).one_or_none()
    return START if anchor is None else ChainPosition(anchor.position, anchor.hash)


def pruned_id(position: int) -> UUID:
    """The id of the audit row that says that rows up to this position were pruned."""
    return uuid5(_PRUNED, str(position))


def _before(
    session: Session, anchor: ChainPosition, expected: Iterable[ChainPosition]
) -> Finding | None:
    """What is wrong with where the chain begins."""
    left = session.execute(
        select(AuditRow.id, AuditRow.position)
        .where(AuditRow.position <= anchor.position)
        .order_by(AuditRow.position)
        .limit(1)
    ).one_or_none()
    if left is not None:
        return Finding(
            Fault.INSERTED, left.position, left.id, "its place is before where the chain begins"
        )
    if anchor != START:
        said = session.scalar(
            select(AuditRow.evidence).where(AuditRow.entry_id == pruned_id(anchor.position))
        )
        if said != str(anchor):
            return Finding(
                Fault.ANCHOR,
                anchor.position,
                None,
                f"the anchor says {anchor}, the row about that pruning {said or 'is not there'}",
            )
    for each in expected:
        if each.position == anchor.position and each.hash != anchor.hash:
            return Finding(
                Fault.REWRITTEN, each.position, None, f"expected {each}, here it is {anchor}"
            )
        if each.position < anchor.position:
            return Finding(
                Fault.MISSING,
                each.position,
                None,
                f"rows up to {anchor.position} were pruned: give their archives too",
            )
    return None


def _end(
    mark: ChainPosition, head: ChainPosition, expected: Iterable[ChainPosition]
) -> Finding | None:
    """What is wrong with where the chain ends."""
    if mark != head:
        return Finding(
            Fault.HEAD,
            mark.position,
            None,
            f"the last row is {mark}, the head says {head}: rows were cut off or added by hand",
        )
    last = max(expected, default=mark)
    if last.position > mark.position:
        return Finding(
            Fault.MISSING,
            mark.position + 1,
            None,
            f"position {last.position} was kept elsewhere, and the chain ends at {mark.position}",
        )
    return None
