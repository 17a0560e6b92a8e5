"""The timeline of a run: all its audit rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.db.audit_models import AuditRow
from controller.db.lookup import AmbiguousError, UnknownError
from controller.db.models import Node, Run

MAX_ROWS: Final = 10_000
"""Rows of a timeline; a run cannot make as many."""

_HINT: Final = "`vxctl audit -o wide` shows the ids"


def row(session: Session, number: int) -> AuditRow:
    """The row with this number; raise UnknownError if there is none."""
    found = session.get(AuditRow, number) if 0 < number < 2**63 else None
    if found is None:
        raise UnknownError(f"no audit row has the id {number}", _HINT)
    return found


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is known of a run, or of an event without one."""

    run: Run | None
    """None: there was none, or the run history no longer has it."""
    node: Node | None
    """None: there was none, or this database does not know it."""
    rows: Sequence[AuditRow]
    """In the order of storing."""


def timeline(session: Session, given: str) -> Timeline:
    """The timeline of the run with this id or unique id prefix, or of the audit row with this number.

    Raises:
        UnknownError, AmbiguousError: none or several have it.
    """
    run_id = None
    if given.isascii() and given.isdecimal() and len(given) < 19:
        found = session.get(AuditRow, int(given))
        if found is not None and found.run_id is None:
            return Timeline(None, _node_of(session, found), [found])
        run_id = None if found is None else found.run_id
    if run_id is None:
        run_id = find_run(session, given)
    run = session.get(Run, run_id)
    # As the index has them; asked for in another order, a database may rather walk the whole trail.
    found_rows = (
        select(AuditRow).where(AuditRow.run_id == run_id).order_by(AuditRow.at, AuditRow.id)
    )
    rows = sorted(session.scalars(found_rows.limit(MAX_ROWS)), key=lambda row: row.id)
    node = session.get(Node, run.node_id) if run is not None else _node_of(session, rows[0])
    return Timeline(run, node, rows)


def find_run(session: Session, given: str) -> UUID:
    """The run with this id, or unique id prefix of at least 6 characters.

    Raises:
        UnknownError: there is none in the audit trail or the run history.
        AmbiguousError: there are several.
    """
    digits = given.replace("-", "").lower()
    unknown = UnknownError(
        f"no run has the id, or id prefix of at least 6 characters, {given!r}", _HINT
    )
    if not 6 <= len(digits) <= 32 or set(digits) - set("0123456789abcdef"):
        raise unknown
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    found: set[UUID] = set()
    for column in (AuditRow.run_id, Run.id):
        # Both ends of the range: no need to read what lies between.
        between = select(column).where(column.between(first, last))
        for order in (column.asc(), column.desc()):
            found.update(filter(None, session.scalars(between.order_by(order).limit(1))))
    if not found:
        raise unknown
    if len(found) > 1:
        raise AmbiguousError(f"several runs have the id prefix {given!r}")
    return found.pop()


def _node_of(session: Session, row: AuditRow) -> Node | None:
    return None if row.node_id is None else session.get(Node, row.node_id)
