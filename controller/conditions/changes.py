"""Changes of conditions, recorded as events.

A finding often changes three conditions of a node together: it makes one event, that of `Ready`, if that
changed too. A message that alone changes makes none: it may hold a count or a time.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import insert
from sqlalchemy.orm import Session

from controller.conditions.model import Reason, Status, Stored, Type
from controller.db.models import Event

_NORMAL: Final = frozenset({Reason.NOTHING_WRONG, Reason.PROGRESSING, Reason.NOT_PAUSED})
"""What the other conditions say of a node with which nothing is wrong."""


class Change(NamedTuple):
    """A change of a condition, or of the leader, with the columns of `Event`."""

    at: datetime
    node_id: str | None
    node_name: str | None
    type: str
    status: str
    reason: str
    message: str


def changes(
    before: Stored, after: Stored, now: datetime, *, node: tuple[str, str] | None = None
) -> Iterator[Change]:
    """Yield the changes from one set of stored conditions to the next.

    Args:
        node: id and hostname; None: the cluster's conditions.
    """
    found = {type_: new for type_, new in after.items() if _differs(before.get(type_), new)}
    ready = found.get(Type.READY)
    for type_, new in found.items():
        repeated = (
            ready is not None and new is not ready and new["reason"] in _NORMAL | {ready["reason"]}
        )
        if not repeated:
            id_, name = node or (None, None)
            yield Change(now, id_, name, type_, new["status"], new["reason"], new["message"])


def record(session: Session, found: Sequence[Change]) -> None:
    """Store changes as events."""
    if found:
        session.execute(insert(Event), [change._asdict() for change in found])


def _differs(old: dict[str, Any] | None, new: dict[str, Any]) -> bool:
    if old is None:  # The first conditions of a node are news only if nobody reports from it.
        return bool(new["status"] == Status.UNKNOWN)
    return bool(old["status"] != new["status"] or old["reason"] != new["reason"])
