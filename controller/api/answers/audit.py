"""Answers about the audit trail: rows, timelines and counts."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Final, Self, get_args, get_type_hints

from pydantic import create_model
from sqlalchemy.orm import Session

from controller.api.answers.base import Answer, ListAnswer
from controller.api.answers.on_node import OnNode, with_shared_names
from controller.api.answers.runs import RunAnswer
from controller.audit.queries.timeline import Timeline
from controller.db.audit_models import AuditRow

_TYPES: Final = get_type_hints(AuditRow)

if TYPE_CHECKING:

    class AuditAnswer(OnNode):
        """An audit row."""

else:
    AuditAnswer = create_model(
        "AuditAnswer",
        __base__=OnNode,
        __doc__="An audit row.",
        **{
            column.name: get_args(_TYPES[column.name])[0]  # Of Mapped[...].
            for column in AuditRow.__table__.columns
            if column.name != "hash"
        },
    )


def audit_answers(session: Session, rows: Iterable[AuditRow]) -> list[AuditAnswer]:
    """Return the answers about audit rows."""
    answers = [AuditAnswer.model_validate(row) for row in rows]
    return [*with_shared_names(session, answers, history=True)]


class AuditPage(ListAnswer[AuditAnswer]):
    """A page of audit rows, the newest first."""

    searched_to: datetime | None
    """Set if the page ended before it was full, because matching rows are rare: all matching rows later
    than this are in the pages so far, and `next` continues the search."""
    after: int
    """The `after` that returns the rows stored from now on."""
    notes: list[str]
    """For the person who asked: which nodes or networks have or had a name, if several."""

    @classmethod
    def of(
        cls,
        session: Session,
        rows: Sequence[AuditRow],
        after: int,
        next_: str | None = None,
        searched_to: datetime | None = None,
        *,
        notes: Sequence[str],
    ) -> Self:
        items = audit_answers(session, rows)
        return cls(items=items, next=next_, searched_to=searched_to, after=after, notes=list(notes))


class TimelineAnswer(Answer):
    """All rows of a run, or the row of something that happened without a run."""

    run: RunAnswer | None
    """None: there was no run, or the run history no longer has it."""
    rows: list[AuditAnswer]
    """In the order in which they were stored."""

    @classmethod
    def of(cls, session: Session, timeline: Timeline) -> Self:
        run = None
        if timeline.run is not None and timeline.node is not None:
            (run,) = with_shared_names(
                session, [RunAnswer.of(timeline.run, timeline.node)], history=True
            )
        return cls(run=run, rows=audit_answers(session, timeline.rows))


class CountAnswer(Answer):
    """The number of devices removed on a node, or of a network."""

    id: str | None
    """None: the network is unknown."""
    name: str | None
    removals: int


class DayAnswer(Answer):
    """The number of devices removed in a day."""

    day: date
    """In UTC."""
    removals: int


class AuditStats(Answer):
    """Removals by node, network and day."""

    since: datetime
    """Later than requested if there were more removals than are counted at once."""
    until: datetime
    whole: bool
    """Whether all removals of the requested period were counted."""
    removals: int
    nodes: list[CountAnswer]
    """The hundred nodes with the most removals, in descending order; networks likewise."""
    networks: list[CountAnswer]
    days: list[DayAnswer]
    """The newest first, without days that had no removals."""
