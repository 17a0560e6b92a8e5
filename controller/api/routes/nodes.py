"""Routes that show nodes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from sqlalchemy.orm import Session

from contract.verdicts import Mode
from controller.api.access import READ
from controller.api.answers.base import ListAnswer
from controller.api.answers.nodes import NodeAnswer, NodeDetailAnswer
from controller.api.context import Context
from controller.api.cursor import Cursors
from controller.api.parameters import MAX_ROWS, STREAM, Followed, NodeName
from controller.api.problem_types import AMBIGUOUS, BUSY, UNKNOWN, WATCHERS, may_answer
from controller.api.routes.devices import device_answers
from controller.conditions.model import Status
from controller.db import lookup
from controller.db.models import Cluster, Node
from controller.views import queries
from controller.views.queries import NameKey

_CURSORS: Final = Cursors(NameKey)


class NodeListing(Followed):
    """The parameters of the list of nodes."""

    ready: Annotated[
        Status | None, Field(description="only nodes whose condition Ready has this status")
    ] = None


def routes(context: Context) -> APIRouter:
    router = APIRouter(
        prefix="/api/v1/nodes",
        tags=["nodes"],
        dependencies=[Depends(context.turns.lists)],
        responses=may_answer(BUSY),
    )
    database = context.database

    @router.get("", responses=may_answer(WATCHERS) | STREAM, dependencies=[READ])
    def list_nodes(
        request: Request, listing: Annotated[NodeListing, Query()]
    ) -> ListAnswer[NodeAnswer]:
        """List the nodes of the Swarm, by hostname."""
        after = _CURSORS.after(request, listing)
        with database.read() as session:
            stale = queries.age(session.get(Cluster, 1)).is_stale(datetime.now(UTC))
            rows = queries.nodes(
                session, after=after, ready=listing.ready, stale=stale, limit=listing.limit + 1
            )
            page, next_ = _CURSORS.page(
                request, listing, rows, lambda node: NameKey(node.hostname, node.id)
            )
            return ListAnswer(items=node_answers(session, page), next=next_)

    @router.get("/{node}", responses=may_answer(UNKNOWN, AMBIGUOUS), dependencies=[READ])
    def get_node(node: NodeName) -> NodeDetailAnswer:
        """Return a node with its conditions, attachments and devices."""
        with database.read() as session:
            return node_detail(session, lookup.find_node(session, node), context.mode)

    return router


def node_detail(session: Session, node: Node, mode: Mode) -> NodeDetailAnswer:
    """Return the answer about a node with its networks and devices.

    `mode`: of the controller's settings.
    """
    (answer,) = node_answers(session, [node])
    devices = queries.devices(session, node=node, limit=MAX_ROWS)
    return NodeDetailAnswer.with_details(
        answer,
        queries.attachments_of_node(session, node),
        device_answers(session, devices, mode),
    )


def node_answers(session: Session, nodes: Sequence[Node]) -> list[NodeAnswer]:
    """Return the answers about nodes, with their device counts and last errors."""
    age, now = queries.age(session.get(Cluster, 1)), datetime.now(UTC)
    verdicts = queries.verdicts(session, nodes)
    errors = queries.last_errors(session, nodes)
    shared = queries.shared_hostnames(session, (node.hostname for node in nodes))
    return [
        NodeAnswer.of(
            node,
            age.as_of(node.conditions, now),
            node.hostname in shared,
            verdicts.get(node.id, {}),
            errors,
        )
        for node in nodes
    ]
