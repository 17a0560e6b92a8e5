"""The route that lists VXLAN devices."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request

from contract.verdicts import Verdict
from controller.api.answers.base import ListAnswer
from controller.api.answers.devices import DeviceAnswer
from controller.api.context import Context
from controller.api.cursor import Cursors
from controller.api.parameters import Listing, NetworkFilter, NodeFilter
from controller.api.problem_types import AMBIGUOUS, BUSY, UNKNOWN, may_answer
from controller.db import lookup
from controller.views import queries
from controller.views.queries import DeviceKey

_CURSORS: Final = Cursors(DeviceKey)


class DeviceListing(Listing):
    """The parameters of the list of devices."""

    node: NodeFilter = None
    network: NetworkFilter = None
    verdict: Verdict | None = None


def routes(context: Context) -> APIRouter:
    router = APIRouter(
        tags=["devices"], dependencies=[Depends(context.turns.lists)], responses=may_answer(BUSY)
    )

    @router.get("/api/v1/devices", responses=may_answer(UNKNOWN, AMBIGUOUS))
    def list_devices(
        request: Request, listing: Annotated[DeviceListing, Query()]
    ) -> ListAnswer[DeviceAnswer]:
        """List the VXLAN devices of the last reports, node by node."""
        after = _CURSORS.after(request, listing)
        network = listing.network
        with context.database.read() as session:
            rows = queries.devices(
                session,
                node=lookup.maybe_node(session, listing.node),
                network=None if network is None else lookup.find_network(session, network),
                verdict=listing.verdict,
                after=after,
                limit=listing.limit + 1,
            )
            page, next_ = _CURSORS.page(
                request,
                listing,
                rows,
                lambda row: DeviceKey(row[0].node_id, row[0].netns, row[0].ifindex),
            )
            return ListAnswer(items=[DeviceAnswer.of(*row) for row in page], next=next_)

    return router
