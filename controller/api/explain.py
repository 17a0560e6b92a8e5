"""The route that says what an error line means."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from controller.api.answers.audit import AuditAnswer
from controller.api.answers.devices import DeviceAnswer
from controller.api.context import Context
from controller.views.explain import MAX_LENGTH, explain

Line = Annotated[
    str, Query(min_length=1, max_length=MAX_LENGTH, description="as Docker or Swarm wrote it")
]


class NamedAnswer(BaseModel):
    """A node or network."""

    id: str
    name: str


class ExplanationAnswer(BaseModel):
    """What an error line means."""

    recognised: bool
    """It is the fault that this operator is for."""
    meaning: str
    nodes: list[NamedAnswer]
    networks: list[NamedAnswer]
    lately: list[AuditAnswer]
    """What was done about devices there, the newest first."""
    now: list[DeviceAnswer]
    """Devices that are in the way, or may be."""
    advice: list[str]


def routes(context: Context) -> APIRouter:
    """Build it."""
    router = APIRouter(prefix="/api/v1/explain")

    @router.get("")
    def explanation(error: Line) -> ExplanationAnswer:
        """Which network and nodes an error is about, what was done lately, and what to do."""
        with context.database.read() as session:
            found = explain(session, error, context.mode)
            return ExplanationAnswer(
                recognised=found.recognised,
                meaning=found.meaning,
                nodes=[NamedAnswer(id=each.id, name=each.hostname) for each in found.nodes],
                networks=[NamedAnswer(id=each.id, name=each.name) for each in found.networks],
                lately=[AuditAnswer.model_validate(row) for row in found.lately],
                now=[DeviceAnswer.of(*each) for each in found.now],
                advice=list(found.advice),
            )

    return router
