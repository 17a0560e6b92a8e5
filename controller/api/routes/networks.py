"""Routes that show networks."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy.orm import Session

from contract.verdicts import Mode
from controller.api.access import READ
from controller.api.answers.base import ListAnswer
from controller.api.answers.networks import NetworkAnswer, NetworkDetailAnswer
from controller.api.context import Context
from controller.api.cursor import Cursors
from controller.api.parameters import MAX_ROWS, Listing, NetworkName
from controller.api.problem_types import AMBIGUOUS, BUSY, UNKNOWN, may_answer
from controller.api.routes.devices import device_answers
from controller.db import lookup
from controller.db.models import Network
from controller.views import queries
from controller.views.queries import NameKey

_CURSORS: Final = Cursors(NameKey)


def routes(context: Context) -> APIRouter:
    router = APIRouter(
        prefix="/api/v1/networks",
        tags=["networks"],
        dependencies=[Depends(context.turns.lists)],
        responses=may_answer(BUSY),
    )
    database = context.database

    @router.get("", dependencies=[READ])
    def list_networks(
        request: Request, listing: Annotated[Listing, Query()]
    ) -> ListAnswer[NetworkAnswer]:
        """List the overlay networks of the Swarm, by name."""
        after = _CURSORS.after(request, listing)
        with database.read() as session:
            rows = queries.networks(session, after=after, limit=listing.limit + 1)
            page, next_ = _CURSORS.page(
                request, listing, rows, lambda network: NameKey(network.name, network.id)
            )
            counts = queries.carriers(session, page)
            items = [NetworkAnswer.of(row, counts.get(row.id, 0)) for row in page]
            return ListAnswer(items=items, next=next_)

    @router.get("/{network}", responses=may_answer(UNKNOWN, AMBIGUOUS), dependencies=[READ])
    def get_network(network: NetworkName) -> NetworkDetailAnswer:
        """Return a network with the nodes that should have it, and its devices."""
        with database.read() as session:
            return network_detail(session, lookup.find_network(session, network), context.mode)

    return router


def network_detail(session: Session, network: Network, mode: Mode) -> NetworkDetailAnswer:
    """Return the answer about a network with its nodes and devices.

    `mode`: of the controller's settings.
    """
    seen = queries.devices(session, network=network, limit=MAX_ROWS)
    nodes = queries.carriers(session, [network]).get(network.id, 0)
    return NetworkDetailAnswer.with_details(
        NetworkAnswer.of(network, nodes),
        queries.attachments_of_network(session, network, MAX_ROWS),
        device_answers(session, seen, mode),
    )
