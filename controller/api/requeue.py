"""Routes for a run by hand: asking for it, and following it."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from controller.api import problems
from controller.api.answers.runs import RequeueAnswer, RunAnswer
from controller.api.context import Context
from controller.api.parameters import ActorAndReason, NodeName, Token
from controller.audit.append import Entry, append
from controller.db import lookup
from controller.db.models import Node, Requeue, Run
from controller.leadership.lease import LeaseLostError
from controller.runs.dispatch import Ask
from controller.workqueue import requeue
from controller.workqueue.priorities import Priority


class RequeueBody(ActorAndReason):
    """Who asks for a run, and why; the same token asks only once."""

    token: Token | None = None


def routes(context: Context) -> APIRouter:
    """Build them."""
    router = APIRouter()
    database = context.database

    @router.post("/api/v1/nodes/{node}/requeue", status_code=202, response_model=RequeueAnswer)
    def requeue_node(
        node: NodeName, body: RequeueBody | None = None
    ) -> RequeueAnswer | JSONResponse:
        """Look at a node now, whatever its backoff says."""
        told = body or RequeueBody()
        token = told.token or str(uuid4())

        def ask(session: Session) -> Sequence[Entry]:
            return requeue.ask(
                session,
                lookup.find_node(session, node),
                token=token,
                actor=told.actor,
                reason=told.reason,
                now=datetime.now(UTC),
            )

        try:
            _carry_out(context, ask)
        except requeue.PausedError as error:
            return problems.problem(409, "Paused", str(error))
        except requeue.TokenTakenError as error:
            return problems.problem(409, "Token taken", f"{error}; give another token, or none")
        with database.read() as session:
            return _answer(session, session.get_one(Requeue, token))

    @router.get("/api/v1/requeues/{token}", response_model=RequeueAnswer)
    def follow(
        token: Annotated[Token, Path(description="as the request's answer names it")],
    ) -> RequeueAnswer | JSONResponse:
        """A request for a run by hand, and the run that answers it."""
        with database.read() as session:
            found = session.get(Requeue, token)
            if found is None:
                return problems.problem(
                    404,
                    "Unknown token",
                    f"no request has the token {token!r}; they are kept as long as the run history",
                )
            return _answer(session, found)

    return router


def _carry_out(context: Context, ask: Ask) -> None:
    """Ask, and have it sent at once where this process leads; else the leader finds it."""
    if context.at_once is not None and context.leading():
        # If another leads by now, it is told below; the token sees to it that this is one request.
        with suppress(LeaseLostError):
            context.at_once(ask)
            return
    with context.database.write() as session:
        entries = ask(session)
        append(session, entries, datetime.now(UTC))
    if entries:
        context.notify(Priority.MANUAL)


def _answer(session: Session, asked: Requeue) -> RequeueAnswer:
    node = session.get_one(Node, asked.node_id)
    run = None if asked.run_id is None else session.get(Run, asked.run_id)
    return RequeueAnswer(
        token=asked.token,
        node_id=node.id,
        node_name=node.hostname,
        node_state=node.state,
        actor=asked.actor,
        reason=asked.reason,
        requested_at=asked.requested_at,
        waits_for_run=node.due.run_id if asked.run_id is None else None,
        run=None if run is None else RunAnswer.of(run, node),
    )
