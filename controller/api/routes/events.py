"""The route that lists events."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from pydantic import Field

from controller.api.access import READ
from controller.api.answers.base import ListAnswer
from controller.api.answers.events import EventAnswer
from controller.api.audit_parameters import Since
from controller.api.context import Context
from controller.api.cursor import CursorError, Cursors
from controller.api.parameters import ContradictionError, Limit, Listing, NetworkFilter, NodeFilter
from controller.api.problem_types import AMBIGUOUS, CONTRADICTION, UNKNOWN, may_answer
from controller.views import events
from controller.views.events import EventKey, Happening

_CURSORS: Final = Cursors(EventKey)
_SOURCES: Final = ("audit", "condition", "rejection", "run")


class EventListing(Listing):
    """The parameters of the list of events."""

    node: NodeFilter = None
    network: Annotated[NetworkFilter, Field(description="not together with `node`")] = None
    since: Since = None
    limit: Limit = 200


def routes(context: Context) -> APIRouter:
    router = APIRouter(tags=["events"])
    database = context.database

    @router.get(
        "/api/v1/events",
        responses=may_answer(UNKNOWN, AMBIGUOUS, CONTRADICTION),
        dependencies=[READ],
    )
    def list_events(
        request: Request, listing: Annotated[EventListing, Query()]
    ) -> ListAnswer[EventAnswer]:
        """List what happened, the newest first, also to what a node or network depends on."""
        if listing.node is not None and listing.network is not None:
            raise ContradictionError("network", "cannot be combined with node", "give one of them")
        before = _CURSORS.after(request, listing)
        if before is not None and not before.is_valid():
            raise CursorError("is not a cursor of this list")
        with database.read() as session:
            rows = events.events(
                session,
                events.scope(session, node=listing.node, network=listing.network),
                since=listing.since,
                before=before,
                limit=listing.limit + 1,
            )
            page, next_ = _CURSORS.page(
                request, listing, rows, lambda row: EventKey(row.at, row.source, row.id)
            )
            return ListAnswer(items=[_answer(row) for row in page], next=next_)

    return router


def _answer(row: Happening) -> EventAnswer:
    return EventAnswer(
        **row._asdict()
        | {
            "id": f"{_SOURCES[row.source]}/{row.id}",
            "type": "Warning" if row.warning else "Normal",
        }
    )
