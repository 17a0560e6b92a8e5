"""The route that lists events."""

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from pydantic import Field
from sqlalchemy.orm import Session

from controller.api.access import READ
from controller.api.answers.base import ListAnswer
from controller.api.answers.events import EventAnswer
from controller.api.answers.on_node import with_shared_names
from controller.api.audit_parameters import Since
from controller.api.context import Context
from controller.api.cursor import CursorError, Cursors
from controller.api.parameters import (
    STREAM,
    ContradictionError,
    Followed,
    Limit,
    NetworkFilter,
    NodeFilter,
)
from controller.api.problem_types import AMBIGUOUS, CONTRADICTION, UNKNOWN, WATCHERS, may_answer
from controller.views import events
from controller.views.events import EventKey, Happening

_CURSORS: Final = Cursors(EventKey)
_SOURCES: Final = ("audit", "condition", "rejection", "run")


class EventListing(Followed):
    """The parameters of the list of events."""

    node: NodeFilter = None
    network: Annotated[NetworkFilter, Field(description="not together with `node`")] = None
    since: Since = None
    limit: Limit = 200

    def check(self) -> None:
        """Refuse two objects.

        Raises:
            ContradictionError: it is asked for a node and for a network.
        """
        if self.node is not None and self.network is not None:
            raise ContradictionError("network", "cannot be combined with node", "give one of them")


def routes(context: Context) -> APIRouter:
    router = APIRouter(tags=["events"])
    database = context.database

    @router.get(
        "/api/v1/events",
        responses=may_answer(UNKNOWN, AMBIGUOUS, CONTRADICTION, WATCHERS) | STREAM,
        dependencies=[READ],
    )
    def list_events(
        request: Request, listing: Annotated[EventListing, Query()]
    ) -> ListAnswer[EventAnswer]:
        """List what happened, the newest first, also to what a node or network depends on."""
        listing.check()
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
            return ListAnswer(items=event_answers(session, page), next=next_)

    return router


def event_answers(session: Session, rows: Sequence[Happening]) -> list[EventAnswer]:
    """Return the answers about events."""
    answers = [
        EventAnswer(
            **row._asdict()
            | {
                "id": f"{_SOURCES[row.source]}/{row.id}",
                "type": "Warning" if row.warning else "Normal",
            }
        )
        for row in rows
    ]
    return [*with_shared_names(session, answers, history=True)]
