"""Answers about the audit trail: rows, timelines and counts."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Final, Self, get_args, get_type_hints
from uuid import UUID

from pydantic import Field, create_model
from sqlalchemy.orm import Session

from controller.api.answers.base import Answer, ListAnswer
from controller.api.answers.on_node import OnNode, with_shared_names
from controller.api.answers.runs import RunAnswer
from controller.audit.queries.timeline import Timeline
from controller.db.audit_models import AuditRow
from controller.db.states import SCAN
from controller.traces import link as traces

_TYPES: Final = get_type_hints(AuditRow)

if TYPE_CHECKING:

    class AuditAnswer(OnNode):
        """An audit row."""

        actor: str
        run_id: UUID | None
        trace_url: str | None

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
        trace_url=Annotated[
            str | None, Field(None, description="the trace of its run; null: traces have no URL")
        ],
    )


def audit_answers(
    session: Session, rows: Iterable[AuditRow], trace_url: str = ""
) -> list[AuditAnswer]:
    """Return the answers about audit rows; `trace_url`: the pattern of the settings; empty: no links."""
    answers = [AuditAnswer.model_validate(row) for row in rows]
    for answer in answers:
        # What a node calls the run of a scan was no run of ours.
        if answer.actor != SCAN:
            answer.trace_url = traces.trace_url(trace_url, answer.run_id)
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
        trace_url: str,
    ) -> Self:
        items = audit_answers(session, rows, trace_url)
        return cls(items=items, next=next_, searched_to=searched_to, after=after, notes=list(notes))


class TimelineAnswer(Answer):
    """All rows of a run, or the row of something that happened without a run."""

    run: RunAnswer | None
    """None: there was no run, or the run history no longer has it."""
    trace_url: str | None
    """The run's trace, from the rejection of a task to the task that runs again; null: traces have no URL."""
    rows: list[AuditAnswer]
    """In the order in which they were stored."""

    @classmethod
    def of(cls, session: Session, timeline: Timeline, trace_url: str) -> Self:
        """Build the answer; `trace_url`: the pattern of the settings."""
        run = None
        if timeline.run is not None and timeline.node is not None:
            (run,) = with_shared_names(
                session, [RunAnswer.of(timeline.run, timeline.node)], history=True
            )
        rows = audit_answers(session, timeline.rows, trace_url)
        # The trace may still be there when the run history no longer has the run.
        of_rows = next((row.trace_url for row in rows if row.trace_url is not None), None)
        of_run = None if run is None else traces.trace_url(trace_url, run.id)
        return cls(run=run, trace_url=of_run or of_rows, rows=rows)


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
