"""The routes that explain error texts of Docker and Swarm."""

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from controller.api.access import READ
from controller.api.answers.explain import ExplanationAnswer
from controller.api.answers.on_node import with_shared_names
from controller.api.context import Context
from controller.api.problem_types import BUSY, may_answer
from controller.explain.text import MAX_TEXT
from controller.views.explain import explain
from controller.views.outlook import Situation

MAX_LINE: Final = 4_000
MAX_BODY_BYTES: Final = 4 * MAX_TEXT
"""A character may need four bytes."""

ErrorLine = Annotated[
    str, Query(min_length=1, max_length=MAX_LINE, description="as Docker or Swarm wrote it")
]


class TextBody(BaseModel):
    """The text to explain."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(
        min_length=1,
        max_length=MAX_TEXT,
        description="an error line, several, or a whole log",
        examples=["web.1 node3 Rejected error creating vxlan interface: file exists"],
    )


def routes(context: Context) -> APIRouter:
    router = APIRouter(tags=["explain"])

    @router.get(
        "/api/v1/explain",
        dependencies=[READ, Depends(context.turns.explain)],
        responses=may_answer(BUSY),
    )
    def explain_error(error: ErrorLine) -> ExplanationAnswer:
        """Explain an error line: its fault, nodes and networks, devices, removals, and what to do."""
        return explained(context, error)

    @router.post(
        "/api/v1/explain",
        dependencies=[READ, Depends(context.turns.explain)],
        responses=may_answer(BUSY),
        max_body_size=MAX_BODY_BYTES,
    )
    def explain_text(body: TextBody) -> ExplanationAnswer:
        """Explain an error text of any length, such as a log: each fault once, with its number of lines."""
        return explained(context, body.text)

    return router


def explained(context: Context, text: str) -> ExplanationAnswer:
    """Return the meaning of a text, with what the controller knows of its nodes and networks."""
    situation = Situation(datetime.now(UTC), context.mode, context.stale_after)
    with context.database.read() as session:
        answer = ExplanationAnswer.of(explain(session, text, situation))
        with_shared_names(session, [*answer.now, *answer.lately], history=True)
        return answer
