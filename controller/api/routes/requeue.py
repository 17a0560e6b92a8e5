"""Routes that request a run of a node, and follow the request."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Path
from sqlalchemy.orm import Session

from controller.api.access import OPERATE, READ, Caller
from controller.api.answers.on_node import with_shared_names
from controller.api.answers.runs import RequeueAnswer, RunAnswer
from controller.api.context import Context
from controller.api.parameters import ActorAndReason, NodeName, Token
from controller.api.problem_types import AMBIGUOUS, PAUSED, TOKEN_TAKEN, UNKNOWN, may_answer
from controller.audit.append import append
from controller.db.models import Node, Requeue, Run
from controller.leadership.lease import LeaseLostError
from controller.views import queries
from controller.workqueue import requeue
from controller.workqueue.priorities import Priority
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
        _store(context, RequeueRequest(node, token, caller.name, given.reason, given.claimed_name))
        with database.read() as session:
            return _answer(context, session, session.get_one(Requeue, token))

    @router.get("/requeues/{token}", responses=may_answer(UNKNOWN), dependencies=[READ])
    def get_requeue(
        token: Annotated[Token, Path(description="`token` of the request's answer")],
    ) -> RequeueAnswer:
        """Return a requested run, and the request."""
        with database.read() as session:
            return _answer(context, session, queries.requeue(session, token))

    return router


def _store(context: Context, request: RequeueRequest) -> None:
    """Store a request and send it if this process leads; otherwise the leader finds it."""
    if context.requeue is not None and context.leading():
        # If another leads by now, it finds the request that is stored below: once, by its token.
        with suppress(LeaseLostError):
            context.requeue(request)
            return
    now = datetime.now(UTC)
    with context.database.write() as session:
        entries = requeue.store(session, request, now)
        append(session, entries, now)
    if entries:
        context.notify(Priority.MANUAL)


def _answer(context: Context, session: Session, request: Requeue) -> RequeueAnswer:
    node = session.get_one(Node, request.node_id)
    run = None if request.run_id is None else session.get(Run, request.run_id)
    answers = [] if run is None else [RunAnswer.of(run, node)]
    with_shared_names(session, answers, history=True)
    return RequeueAnswer.from_row(
        request,
        node_name=node.hostname,
        node_state=node.state,
        waits_for_run=node.due.run_id if request.run_id is None else None,
        run=next(iter(answers), None),
        not_sent_because=_not_sent(context, session, node) if run is None else None,
    )


def _not_sent(context: Context, session: Session, node: Node) -> str | None:
    """Return why a request waits, and until when; None: it is sent in a moment."""
    if node.state == "down":
        return "the Swarm reports the node as down; it is sent when the node is back"
    if (fault := context.health.broker.fault) is not None:
        return f"{fault.message}; it is sent as soon as that works"
    if not context.leading() and queries.leader(session) is None:
        return "no controller leads; it is sent when one does"
    return None
