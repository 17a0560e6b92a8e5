"""The route that lists runs."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from controller.api.access import READ
from controller.api.answers.base import ListAnswer
from controller.api.answers.on_node import with_shared_names
from controller.api.answers.runs import RunAnswer
from controller.api.context import Context
from controller.api.cursor import Cursors
from controller.api.parameters import STREAM, Followed, Limit, NodeFilter
from controller.api.problem_types import AMBIGUOUS, BUSY, UNKNOWN, WATCHERS, may_answer
from controller.db import lookup
from controller.db.states import RunState
from controller.views import queries
from controller.views.queries import RunKey

_CURSORS: Final = Cursors(RunKey)


class RunListing(Followed):
    """The parameters of the list of runs."""

    node: NodeFilter = None
    state: Annotated[RunState | None, Field(description="only runs in this state")] = None
    limit: Limit = 100


def routes(context: Context) -> APIRouter:
    router = APIRouter(
        tags=["runs"], dependencies=[Depends(context.turns.lists)], responses=may_answer(BUSY)
    )
    database = context.database

    @router.get(
        "/api/v1/runs",
        responses=may_answer(UNKNOWN, AMBIGUOUS, WATCHERS) | STREAM,
        dependencies=[READ],
    )
    def list_runs(
        request: Request, listing: Annotated[RunListing, Query()]
    ) -> ListAnswer[RunAnswer]:
        """List the runs, the newest first."""
        before = _CURSORS.after(request, listing)
        with database.read() as session:
            rows = queries.runs(
                session,
                node=lookup.maybe_node(session, listing.node),
                state=listing.state,
                before=before,
                limit=listing.limit + 1,
            )
            page, next_ = _CURSORS.page(
                request, listing, rows, lambda row: RunKey(row[0].requested_at, row[0].id)
            )
            answers = [RunAnswer.of(*row) for row in page]
            items = [*with_shared_names(session, answers, history=True)]
            return ListAnswer(items=items, next=next_)

    return router
