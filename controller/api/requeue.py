"""Routes for a run by hand: asking for it, and following it."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from controller import gate, queries, requeue
from controller.api import problems
from controller.api.answers.runs import RequeueAnswer, RunAnswer
from controller.api.context import Context
from controller.api.parameters import NodeName, Said, Token
from controller.models import Node, Requeue, Run


class RequeueBody(Said):
    """Who asks for a run, and why; the same token asks only once."""

    token: Token | None = None


def routes(context: Context) -> APIRouter:
    """Build them."""
    router = APIRouter()
    database = context.database

    @router.post("/api/v1/nodes/{node}/requeue", status_code=202, response_model=RequeueAnswer)
    def ask(node: NodeName, body: RequeueBody | None = None) -> RequeueAnswer | JSONResponse:
        """Look at a node now, whatever its backoff says."""
        told = body or RequeueBody()
        try:
            with gate.urgent(), database.write() as session:
                asked = requeue.ask(
                    session,
                    queries.find_node(session, node),
                    token=told.token or str(uuid4()),
                    actor=told.actor,
                    why=told.why,
                    now=datetime.now(UTC),
                )
                answer = _answer(session, asked.requeue)
        except requeue.PausedError as error:
            return problems.problem(409, "Paused", str(error))
        except requeue.TokenTakenError as error:
            return problems.problem(409, "Token taken", f"{error}; give another token, or none")
        if asked.new:
            context.ring()
        return answer

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


def _answer(session: Session, asked: Requeue) -> RequeueAnswer:
    node = session.get_one(Node, asked.node_id)
    run = None if asked.run_id is None else session.get(Run, asked.run_id)
    return RequeueAnswer(
        token=asked.token,
        node_id=node.id,
        node_name=node.hostname,
        node_state=node.state,
        actor=asked.actor,
        why=asked.why,
        requested_at=asked.requested_at,
        waits_for_run=node.due.run_id if asked.run_id is None else None,
        run=None if run is None else RunAnswer.of(run, node),
    )
