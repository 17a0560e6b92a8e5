"""Routes that request a run of a node, and follow the request."""

from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Path

from controller.api import acting
from controller.api.access import OPERATE, READ, Caller
from controller.api.answers.runs import RequeueAnswer
from controller.api.context import Context
from controller.api.parameters import ActorAndReason, NodeName, Token
from controller.api.problem_types import AMBIGUOUS, PAUSED, TOKEN_TAKEN, UNKNOWN, may_answer
from controller.views import queries
from controller.workqueue.requeue import RequeueRequest


class RequeueBody(ActorAndReason):
    """Actor and reason; requests with the same token request one run."""

    token: Token | None = None


def routes(context: Context) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["runs"])
    database = context.database

    @router.post(
        "/nodes/{node}/requeue",
        status_code=202,
        responses=may_answer(UNKNOWN, AMBIGUOUS, PAUSED, TOKEN_TAKEN),
        dependencies=[OPERATE],
    )
    def requeue_node(
        caller: Caller, node: NodeName, body: RequeueBody | None = None
    ) -> RequeueAnswer:
        """Request a run of a node now, regardless of its backoff."""
        given = body or RequeueBody()
        token = given.token or str(uuid4())
        request = RequeueRequest(node, token, caller.name, given.reason, given.claimed_name)
        return acting.request_run(context, request)

    @router.get("/requeues/{token}", responses=may_answer(UNKNOWN), dependencies=[READ])
    def get_requeue(
        token: Annotated[Token, Path(description="`token` of the request's answer")],
    ) -> RequeueAnswer:
        """Return a requested run, and the request."""
        with database.read() as session:
            return acting.requeue_answer(context, session, queries.requeue(session, token))

    return router
