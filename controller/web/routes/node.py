"""The page about a node: conditions, devices, what holds removals back, runs, keys and events."""

from fastapi import APIRouter, Depends, Request, Response

from contract.verdicts import Verdict
from controller.api.access import READ
from controller.api.answers.nodes import NodeAnswer
from controller.api.answers.on_node import with_shared_names
from controller.api.answers.runs import RunAnswer
from controller.api.context import Context
from controller.api.parameters import NodeName
from controller.api.routes.events import event_answers
from controller.api.routes.nodes import node_detail
from controller.conditions.model import Status, Type
from controller.db import lookup
from controller.trust import store
from controller.views import events, queries
from controller.web import live
from controller.web.pages import render

_MAX_RUNS = 15
_MAX_EVENTS = 30


def routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.get("/nodes/{node}", dependencies=[READ, Depends(context.turns.lists)])
    def get_node(request: Request, node: NodeName) -> Response:
        """Show a node."""
        with context.database.read() as session:
            marks = live.marks(session)
            found = lookup.find_node(session, node)
            answer = node_detail(session, found, context.mode)
            runs = [
                RunAnswer.of(*row) for row in queries.runs(session, node=found, limit=_MAX_RUNS)
            ]
            scope = events.scope_of(session, node_id=found.id, network_id=None)
            happenings = events.events(session, scope, limit=_MAX_EVENTS)
            return render(
                request,
                "node.html",
                marks=marks,
                node=answer,
                look=look(answer),
                remarkable=[
                    device for device in answer.seen if device.verdict is not Verdict.IN_USE
                ],
                in_use=[device for device in answer.seen if device.verdict is Verdict.IN_USE],
                looked_at=found.looked_at,
                runs=with_shared_names(session, runs, history=True),
                keys=store.node_keys(session, found.id),
                events=event_answers(session, happenings),
            )

    return router


def look(node: NodeAnswer) -> str:
    """Return how well a node is, as `_macros.html` names it."""
    status = {condition.type: condition.status for condition in node.conditions}
    if status.get(Type.PAUSED) == Status.TRUE:
        return "chosen"
    if Type.READY not in status or status[Type.READY] == Status.UNKNOWN:
        return "unknown"
    if status[Type.READY] == Status.FALSE:
        return "bad"
    others = (Type.DEGRADED, Type.STALLED)
    return "left" if any(status.get(type_) == Status.TRUE for type_ in others) else "ok"
