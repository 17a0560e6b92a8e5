"""Routes that compare desired state with what was seen, and say what the next run would remove."""

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request

from controller.api.access import READ
from controller.api.answers.base import ListAnswer
from controller.api.answers.diff import NodeDiffAnswer
from controller.api.answers.on_node import with_shared_names
from controller.api.answers.plan import PlanAnswer
from controller.api.context import Context
from controller.api.cursor import Cursors
from controller.api.parameters import Limit, Listing, NodeFilter, NodeName
from controller.api.problem_types import AMBIGUOUS, NO_CLUSTER, UNKNOWN, may_answer
from controller.db import lookup
from controller.safety.holding import Holding
from controller.views import diff, plan, queries
from controller.views.queries import NameKey

_CURSORS: Final = Cursors(NameKey)


class DiffListing(Listing):
    """The parameters of the list of differences."""

    node: NodeFilter = None
    limit: Limit = 200


def routes(context: Context) -> APIRouter:
    router = APIRouter(tags=["nodes"])
    database = context.database

    @router.get(
        "/api/v1/diff", responses=may_answer(UNKNOWN, AMBIGUOUS, NO_CLUSTER), dependencies=[READ]
    )
    def list_differences(
        request: Request, listing: Annotated[DiffListing, Query()]
    ) -> ListAnswer[NodeDiffAnswer]:
        """Compare the desired state of each node with what its last run saw, by hostname."""
        after = _CURSORS.after(request, listing)
        with database.read() as session:
            cluster = queries.known_cluster(session)
            node = lookup.maybe_node(session, listing.node)
            rows = (
                queries.nodes(session, after=after, limit=listing.limit + 1)
                if node is None
                else [node]
            )
            page, next_ = _CURSORS.page(
                request, listing, rows, lambda row: NameKey(row.hostname, row.id)
            )
            found = diff.diff(
                session, cluster, page, now=datetime.now(UTC), stale_after=context.stale_after
            )
            answers = [NodeDiffAnswer.of(row) for row in found]
            return ListAnswer(items=[*with_shared_names(session, answers)], next=next_)

    @router.get(
        "/api/v1/nodes/{node}/plan",
        responses=may_answer(UNKNOWN, AMBIGUOUS, NO_CLUSTER),
        dependencies=[READ],
    )
    def get_plan(node: NodeName) -> PlanAnswer:
        """Say what the next run of a node would remove, and what is in the way; the worker judges again."""
        now = datetime.now(UTC)
        with database.read() as session:
            queries.known_cluster(
                session
            )  # Before the first reading no node is known, and this says why.
            found = plan.plan(
                session,
                lookup.find_node(session, node),
                Holding(session, context.mode, now),
                limits=context.breaker,
                now=now,
            )
            return PlanAnswer.of(found, stale=plan.is_stale(found, now, context.stale_after))

    return router
