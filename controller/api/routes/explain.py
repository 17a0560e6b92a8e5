"""The route that explains an error line of Docker or Swarm."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from controller.api.answers.audit import AuditAnswer
from controller.api.answers.explain import ExplanationAnswer, NamedAnswer
from controller.api.context import Context
from controller.api.problem_types import BUSY, may_answer
from controller.api.routes.devices import device_answers
from controller.views.explain import MAX_LENGTH, explain

ErrorLine = Annotated[
    str, Query(min_length=1, max_length=MAX_LENGTH, description="as Docker or Swarm wrote it")
]


def routes(context: Context) -> APIRouter:
    router = APIRouter(tags=["explain"])

    @router.get(
        "/api/v1/explain",
        dependencies=[Depends(context.turns.explain)],
        responses=may_answer(BUSY),
    )
    def explain_error(error: ErrorLine) -> ExplanationAnswer:
        """Explain an error line: nodes and networks, devices, recent removals, and what to do."""
        with context.database.read() as session:
            found = explain(session, error, context.mode)
            return ExplanationAnswer(
                recognised=found.recognised,
                meaning=found.meaning,
                nodes=[NamedAnswer(id=node.id, name=node.hostname) for node in found.nodes],
                networks=[NamedAnswer.model_validate(network) for network in found.networks],
                lately=[AuditAnswer.model_validate(row) for row in found.lately],
                now=device_answers(session, found.now, context.mode),
                advice=list(found.advice),
            )

    return router
