"""Routes about the audit trail."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request

from controller.api.answers.audit import AuditAnswer, AuditPage, AuditStats, TimelineAnswer
from controller.api.context import Context
from controller.api.cursor import Cursor
from controller.api.parameters import ParameterError
from controller.api.questions import Between, Listing, asked, once
from controller.audit.queries import counts, pages, timeline

_STATS: Final = timedelta(days=30)


def routes(context: Context) -> APIRouter:
    """Build them."""
    router = APIRouter(prefix="/api/v1/audit", dependencies=[Depends(once)])
    database = context.database

    @router.get("")
    def audit(request: Request, listing: Annotated[Listing, Query()]) -> AuditPage:
        """The newest audit rows first; with `after`: what was stored since, in that order."""
        with database.read() as session:
            if listing.after is not None:
                filters = listing.filters(session)
                rows, after = pages.arrivals(session, filters, listing.after, listing.limit)
                return AuditPage.of(rows, after)
            position = None
            if listing.cursor is not None:
                try:
                    cursor = Cursor.decode(listing.cursor, asked(request))
                except ValueError as error:
                    raise ParameterError("cursor", str(error)) from None
                position, listing.since, listing.until = cursor.position, cursor.since, cursor.until
            # First: what is stored meanwhile is left to who follows.
            newest = pages.newest(session)
            page = pages.page(session, listing.filters(session), position, listing.limit)
            if page.next is None:
                return AuditPage.of(page.rows, newest)
            return AuditPage.of(
                page.rows,
                newest,
                Cursor(page.next, listing.since, listing.until).encode(asked(request)),
                page.next.at if page.short else None,
            )

    @router.get("/stats")
    def stats(between: Annotated[Between, Query()]) -> AuditStats:
        """Removals by node, network and day; of the last 30 days unless told."""
        until = between.until or datetime.now(UTC)
        with database.read() as session:
            return AuditStats.of(counts.counts(session, between.since or until - _STATS, until))

    @router.get("/{id}")
    def row(id: Annotated[int, Path(ge=1, lt=2**63)]) -> AuditAnswer:  # noqa: A002
        """One row."""
        with database.read() as session:
            return AuditAnswer.model_validate(timeline.row(session, id))

    @router.get("/{id}/timeline")
    def run_timeline(
        id: Annotated[  # noqa: A002
            str, Path(max_length=255, description="of a row, or of a run, or how a run's begins")
        ],
    ) -> TimelineAnswer:
        """All that is recorded of a run, in order; or of what happened without a run."""
        with database.read() as session:
            return TimelineAnswer.of(timeline.timeline(session, id))

    return router
