"""The page about a network: its devices, the nodes that should carry it, and events."""

from fastapi import APIRouter, Depends, Request, Response

from contract.verdicts import Verdict
from controller.api.access import READ
from controller.api.context import Context
from controller.api.parameters import NetworkName
from controller.api.routes.events import event_answers
from controller.api.routes.networks import network_detail
from controller.db import lookup
from controller.views import events
from controller.web import live
from controller.web.pages import render

_MAX_EVENTS = 30
_SHOWN = 200
"""Devices and nodes of each kind: a page of thousands is slow, and nobody reads it."""


def routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.get("/networks/{network}", dependencies=[READ, Depends(context.turns.lists)])
    def get_network(request: Request, network: NetworkName) -> Response:
        """Show a network."""
        with context.database.read() as session:
            marks = live.marks(session)
            found = lookup.find_network(session, network)
            answer = network_detail(session, found, context.mode)
            scope = events.scope_of(session, node_id=None, network_id=found.id)
            happenings = events.events(session, scope, limit=_MAX_EVENTS)
            remarkable = [device for device in answer.seen if device.verdict is not Verdict.IN_USE]
            in_use = [device for device in answer.seen if device.verdict is Verdict.IN_USE]
            return render(
                request,
                "network.html",
                marks=marks,
                network=answer,
                remarkable=remarkable[:_SHOWN],
                bad=any(
                    device.verdict in (Verdict.ORPHAN, Verdict.CONFLICT) for device in remarkable
                ),
                in_use=in_use[:_SHOWN],
                in_use_count=len(in_use),
                carriers=answer.carriers[:_SHOWN],
                is_cut=max(len(remarkable), len(in_use), len(answer.carriers)) > _SHOWN,
                shown=_SHOWN,
                events=event_answers(session, happenings),
            )

    return router
