"""Routes that show the audit trail: rows, timelines of runs, counts of removals."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, NamedTuple

from fastapi import APIRouter, Depends, Path, Query, Request
from sqlalchemy.orm import Session

from controller.api.access import READ
from controller.api.answers.audit import (
    AuditAnswer,
    AuditPage,
    AuditStats,
    TimelineAnswer,
    audit_answers,
)
from controller.api.audit_parameters import AuditListing, Period
from controller.api.context import Context
from controller.api.cursor import Cursors, question
from controller.api.parameters import STREAM
from controller.api.problem_types import AMBIGUOUS, BUSY, UNKNOWN, WATCHERS, may_answer
from controller.audit.queries import counts, pages, timeline
from controller.audit.queries.pages import RowKey
from controller.timespec import FIRST


class AuditKey(NamedTuple):
    """Where a page ended, and the period of the first page: a relative time (`2h`) does not move."""

    at: datetime
    id: int
    since: datetime | None
    until: datetime | None


_CURSORS: Final = Cursors(AuditKey)
_STATS_PERIOD: Final = timedelta(days=30)


def routes(context: Context) -> APIRouter:
    router = APIRouter(prefix="/api/v1/audit", tags=["audit"], responses=may_answer(BUSY))
    database = context.database
    in_turn = [Depends(context.turns.lists)]

    @router.get(
        "",
        dependencies=[READ, *in_turn],
        responses=may_answer(UNKNOWN, AMBIGUOUS, WATCHERS) | STREAM,
    )
    def list_audit(request: Request, listing: Annotated[AuditListing, Query()]) -> AuditPage:
        """List audit rows, the newest first; with `after` the rows stored since, in that order."""
        with database.read() as session:
            return audit_page(session, request, listing, context.trace_url)

    @router.get("/stats", dependencies=[READ, Depends(context.turns.stats)])
    def get_audit_stats(period: Annotated[Period, Query()]) -> AuditStats:
        """Count removals by node, network and day, by default of the last 30 days."""
        until = period.until or datetime.now(UTC)
        with database.read() as session:
            since = period.since or max(until, FIRST + _STATS_PERIOD) - _STATS_PERIOD
            return AuditStats.model_validate(counts.counts(session, since, until))

    @router.get("/{id}", dependencies=[READ, *in_turn], responses=may_answer(UNKNOWN))
    def get_audit_row(
        id: Annotated[int, Path(ge=1, lt=2**63, description="of the row")],  # noqa: A002
    ) -> AuditAnswer:
        """Return an audit row."""
        with database.read() as session:
            return audit_answers(session, [timeline.row(session, id)], context.trace_url)[0]

    @router.get(
        "/{id}/timeline", dependencies=[READ, *in_turn], responses=may_answer(UNKNOWN, AMBIGUOUS)
    )
    def get_timeline(
        id: Annotated[  # noqa: A002
            str, Path(max_length=255, description="id of an audit row, or id or id prefix of a run")
        ],
    ) -> TimelineAnswer:
        """Return all rows of a run in the order in which they were stored, or the row of no run."""
        with database.read() as session:
            return TimelineAnswer.of(session, timeline.timeline(session, id), context.trace_url)

    return router


def audit_page(
    session: Session, request: Request, listing: AuditListing, trace_url: str
) -> AuditPage:
    """Return a page of audit rows; its cursor is good for the path and parameters of the request.

    Args:
        trace_url: pattern of the URL of a run's trace.

    Raises:
        CursorError: the cursor is invalid, or belongs to a request with other parameters.
        UnknownError, AmbiguousError: of the filters.
    """
    key = _CURSORS.after(request, listing)
    if listing.after is not None:
        filters = listing.filters(session)
        rows, after = pages.arrivals(session, filters, listing.after, listing.limit)
        return AuditPage.of(session, rows, after, notes=listing.notes, trace_url=trace_url)
    if key is not None:
        listing.since, listing.until = key.since, key.until
    # Read first: rows stored from now on are left to those who follow.
    newest = pages.newest(session)
    start = None if key is None else RowKey(key.at, key.id)
    page = pages.page(session, listing.filters(session), start, listing.limit)
    if page.next is None:
        return AuditPage.of(session, page.rows, newest, notes=listing.notes, trace_url=trace_url)
    following = AuditKey(*page.next, listing.since, listing.until)
    next_ = _CURSORS.encode(following, question(request))
    searched_to = page.next.at if page.short else None
    return AuditPage.of(
        session, page.rows, newest, next_, searched_to, notes=listing.notes, trace_url=trace_url
    )
