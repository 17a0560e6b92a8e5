"""What is said of the audit trail."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Final, get_args, get_type_hints

from pydantic import create_model

from controller.api.answers.base import Answer
from controller.api.answers.runs import RunAnswer
from controller.audit.queries.counts import Counts
from controller.audit.queries.timeline import Timeline
from controller.db.audit_models import AuditRow

_TYPES: Final = get_type_hints(AuditRow)

if TYPE_CHECKING:

    class AuditAnswer(Answer):
        """One audit row."""

else:
    AuditAnswer = create_model(
        "AuditAnswer",
        __base__=Answer,
        __doc__="One audit row.",
        **{
            column.name: get_args(_TYPES[column.name])[0]  # Of Mapped[...].
            for column in AuditRow.__table__.columns
            if column.name != "hash"
        },
    )


class AuditPage(Answer):
    """Audit rows, the newest first."""

    items: list[AuditAnswer]
    next: str | None
    """Give it as `cursor` for the rows behind these; None: there are no more."""
    searched_to: datetime | None
    """Set where a page ended before it was full, because what is asked for is so rare: rows later than
    this are all told, `next` goes on searching."""
    after: int
    """Give it as `after` for what is stored from now on."""

    @classmethod
    def of(
        cls,
        rows: Sequence[AuditRow],
        after: int,
        next_: str | None = None,
        searched_to: datetime | None = None,
    ) -> "AuditPage":
        """From the rows."""
        items = [AuditAnswer.model_validate(row) for row in rows]
        return cls(items=items, next=next_, searched_to=searched_to, after=after)


class TimelineAnswer(Answer):
    """All that is recorded of one run, or of something that happened without one."""

    run: RunAnswer | None
    """None: there was none, or the run history no longer has it."""
    rows: list[AuditAnswer]
    """In the order in which they were stored."""

    @classmethod
    def of(cls, timeline: Timeline) -> "TimelineAnswer":
        """From what was found."""
        run = None
        if timeline.run is not None and timeline.node is not None:
            run = RunAnswer.of(timeline.run, timeline.node)
        return cls(run=run, rows=[AuditAnswer.model_validate(row) for row in timeline.rows])


class CountAnswer(Answer):
    """How many devices were removed on a node, or of a network."""

    id: str | None
    """None: of no network that was known."""
    name: str | None
    removals: int


class DayAnswer(Answer):
    """How many devices were removed in a day."""

    day: date
    """In UTC."""
    removals: int


class AuditStats(Answer):
    """Removals by node, network and day."""

    since: datetime
    """Later than asked for where there were more than can be counted at once."""
    until: datetime
    whole: bool
    """Whether all were counted that were asked for."""
    removals: int
    nodes: list[CountAnswer]
    """The hundred with the most, the most first; networks likewise."""
    networks: list[CountAnswer]
    days: list[DayAnswer]
    """The newest first; a day without removals is left out."""

    @classmethod
    def of(cls, counts: Counts) -> "AuditStats":
        """From what was counted."""
        return cls.model_validate(counts)
