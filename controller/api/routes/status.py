"""Routes for probes, and for the status of the cluster and its nodes."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from contract import VERSION
from controller.api import problems
from controller.api.answers.cluster import ClusterAnswer, StatusAnswer
from controller.api.context import Context
from controller.api.parameters import Limit
from controller.api.problem_types import BUSY, NOT_READY, may_answer
from controller.api.routes.nodes import node_answers
from controller.conditions.cluster import desired_state
from controller.conditions.facts import cluster_facts
from controller.conditions.model import Status
from controller.db.models import Cluster
from controller.views import queries


def routes(context: Context) -> APIRouter:
    router = APIRouter(tags=["status"])
    database = context.database

    @router.get("/healthz")
    async def get_health() -> dict[str, str]:
        """Answer as long as this process runs."""
        return {"status": "ok"}

    @router.get("/readyz", responses=may_answer(NOT_READY))
    def get_readiness() -> JSONResponse:
        """Answer 200 if the database answers and the Swarm can be read, otherwise 503."""
        with database.read() as session:
            cluster = session.get(Cluster, 1)
        if cluster is None:
            return problems.problem(NOT_READY, "the Swarm has not been read yet")
        # Derived here: the stored condition may be a second old.
        facts = cluster_facts(cluster, context.mode, datetime.now(UTC), context.stale_after)
        known = desired_state(facts)
        if known.status != Status.TRUE:
            return problems.problem(NOT_READY, f"{known.reason}: {known.message}")
        return JSONResponse({"status": "ok"})

    @router.get(
        "/api/v1/status",
        dependencies=[Depends(context.turns.status)],
        responses=may_answer(BUSY),
    )
    def get_status(limit: Annotated[Limit, Query()] = 100) -> StatusAnswer:
        """Return the status of the cluster and of its nodes, nodes that are not ready first."""
        with database.read() as session:
            cluster = session.get(Cluster, 1)
            return StatusAnswer(
                version=VERSION,
                mode=context.mode,
                leader=queries.leader(session),
                leading=context.leading(),
                cluster=None if cluster is None else ClusterAnswer.model_validate(cluster),
                readiness=queries.readiness(session),
                nodes=node_answers(session, queries.unready_first(session, limit)),
            )

    return router
