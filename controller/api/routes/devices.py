"""Routes that list VXLAN devices, and those whose removal is held back."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from sqlalchemy.orm import Session

from contract.verdicts import HeldBack, Mode, Verdict
from controller.api.access import READ
from controller.api.answers.base import ListAnswer
from controller.api.answers.devices import DeviceAnswer
from controller.api.answers.on_node import with_shared_names
from controller.api.context import Context
from controller.api.cursor import Cursors
from controller.api.parameters import STREAM, Followed, Listing, NetworkFilter, NodeFilter
from controller.api.problem_types import AMBIGUOUS, BUSY, UNKNOWN, WATCHERS, may_answer
from controller.db import lookup
from controller.db.models import Device, Node
from controller.safety.holding import Holding
from controller.safety.suppressed import DeviceKey, suppressed
from controller.views import queries

_CURSORS: Final = Cursors(DeviceKey)


class DeviceListing(Followed):
    """The parameters of the list of devices."""

    node: NodeFilter = None
    network: NetworkFilter = None
    verdict: Annotated[Verdict | None, Field(description="only devices of this verdict")] = None


class SuppressedListing(Listing):
    """The parameters of the list of removals that are held back."""

    node: NodeFilter = None
    network: NetworkFilter = None
    reason: Annotated[HeldBack | None, Field(description="only devices that this holds back")] = (
        None
    )


def routes(context: Context) -> APIRouter:
    router = APIRouter(
        tags=["devices"], dependencies=[Depends(context.turns.lists)], responses=may_answer(BUSY)
    )

    @router.get(
        "/api/v1/devices",
        responses=may_answer(UNKNOWN, AMBIGUOUS, WATCHERS) | STREAM,
        dependencies=[READ],
    )
    def list_devices(
        request: Request, listing: Annotated[DeviceListing, Query()]
    ) -> ListAnswer[DeviceAnswer]:
        """List the VXLAN devices of the last reports, node by node."""
        after = _CURSORS.after(request, listing)
        with context.database.read() as session:
            rows = queries.devices(
                session,
                node=lookup.maybe_node(session, listing.node),
                network=lookup.maybe_network(session, listing.network),
                verdict=listing.verdict,
                after=after,
                limit=listing.limit + 1,
            )
            page, next_ = _CURSORS.page(request, listing, rows, _key)
            return ListAnswer(items=device_answers(session, page, context.mode), next=next_)

    @router.get("/api/v1/suppressed", responses=may_answer(UNKNOWN, AMBIGUOUS), dependencies=[READ])
    def list_suppressed(
        request: Request, listing: Annotated[SuppressedListing, Query()]
    ) -> ListAnswer[DeviceAnswer]:
        """List the devices that would be removed but for what `held_back` says, node by node."""
        after = _CURSORS.after(request, listing)
        now = datetime.now(UTC)
        with context.database.read() as session:
            found = suppressed(
                session,
                Holding(session, context.mode, now),
                now,
                node=lookup.maybe_node(session, listing.node),
                network=lookup.maybe_network(session, listing.network),
                reason=listing.reason,
                after=after,
            )
            rows = [*islice(found, listing.limit + 1)]
            page, next_ = _CURSORS.page(request, listing, rows, _key)
            answers = [DeviceAnswer.of(*row) for row in page]
            return ListAnswer(items=[*with_shared_names(session, answers)], next=next_)

    return router


def _key(row: Sequence[Any]) -> DeviceKey:
    device: Device = row[0]
    return DeviceKey(device.node_id, device.netns, device.ifindex)


def device_answers(
    session: Session, rows: Iterable[tuple[Device, Node]], mode: Mode
) -> list[DeviceAnswer]:
    """Return the answers about devices, with what holds their removal back.

    `mode`: of the controller's settings.
    """
    holding = Holding(session, mode, datetime.now(UTC))
    answers = [DeviceAnswer.of(device, node, holding.of(device, node)) for device, node in rows]
    return [*with_shared_names(session, answers)]
