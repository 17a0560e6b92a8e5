"""Routes for probes, and for the status of the cluster and its nodes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from contract import VERSION
from controller.api import problems
from controller.api.access import OPEN, READ
from controller.api.answers.cluster import ClusterAnswer, StatusAnswer
from controller.api.context import Context
from controller.api.parameters import Limit
from controller.api.problem_types import BUSY, NOT_READY, may_answer
from controller.api.routes.nodes import node_answers
from controller.conditions.cluster import desired_state
from controller.conditions.facts import cluster_facts
from controller.conditions.instant import Instant
from controller.conditions.model import Reason, Status, format_time
from controller.db.models import Cluster
from controller.health.faults import Fault
from controller.safety import modes
from controller.safety.modes import EffectiveMode
from controller.views import queries
from controller.views.queries import NodeReady


def routes(context: Context) -> APIRouter:
    router = APIRouter(tags=["status"])
    database = context.database

    @router.get("/healthz", dependencies=[OPEN])
    async def get_health() -> dict[str, str]:
        """Answer as long as this process runs."""
        return {"status": "ok"}

    @router.get("/readyz", responses=may_answer(NOT_READY), dependencies=[OPEN])
    def get_readiness() -> JSONResponse:
        """Answer 200 if broker and database work and the Swarm can be read, otherwise 503."""
        found = context.health.faults()
        if any(not fault.reason.startswith("Broker") for fault in found):
            return _not_ready(found)  # Without the database, which may hang.
        now = datetime.now(UTC)
        with database.read() as session:
            cluster = session.get(Cluster, 1)
        if cluster is None:
            return problems.problem(NOT_READY, "the Swarm has not been read yet")
        # Derived here: the stored condition may be a second old.
        known = desired_state(
            cluster_facts(cluster, context.mode, Instant(now), context.stale_after)
        )
        if known.status != Status.TRUE:
            found.append(Fault(known.reason, known.message))
        if cluster.conditions_at is not None and queries.age(cluster).is_stale(now):
            message = f"conditions were last derived at {format_time(cluster.conditions_at)}"
            found.append(Fault(Reason.CONDITIONS_STALE, message))
        return _not_ready(found) if found else JSONResponse({"status": "ok"})

    @router.get(
        "/api/v1/status",
        dependencies=[READ, Depends(context.turns.status)],
        responses=may_answer(BUSY),
    )
    def get_status(limit: Annotated[Limit, Query()] = 100) -> StatusAnswer:
        """Return the status of the cluster and of its nodes, the worst first."""
        with database.read() as session:
            return status_answer(context, session, queries.ready_of_all(session), limit)

    return router


def status_answer(
    context: Context, session: Session, ready: Sequence[NodeReady], limit: int
) -> StatusAnswer:
    """Return the status of the cluster and of at most `limit` of its nodes, the worst first.

    Args:
        ready: of all nodes, as `queries.ready_of_all` returns it.
    """
    now, own = datetime.now(UTC), context.health.conditions()
    cluster = session.get(Cluster, 1)
    age = queries.age(cluster)
    effective = (
        EffectiveMode(context.mode, False, ())
        if cluster is None
        else modes.of_cluster(cluster, context.mode)
    )
    return StatusAnswer(
        version=VERSION,
        mode=context.mode,
        effective_mode=effective.mode,
        paused=effective.paused,
        mode_reasons=list(effective.reasons),
        leader=queries.leader(session),
        leading=context.leading(),
        conditions=own,
        conditions_at=age.derived_at,
        cluster=None
        if cluster is None
        else ClusterAnswer.of(cluster, age.as_of(cluster.conditions, now) | own),
        readiness=queries.readiness(ready, stale=age.is_stale(now)),
        left_on_ready=queries.left_on_ready(ready, stale=age.is_stale(now)),
        oldest_look_at=queries.oldest_look(session),
        nodes=node_answers(session, queries.worst_first(session, ready, limit)),
    )


def _not_ready(found: Sequence[Fault]) -> JSONResponse:
    detail = "; ".join(f"{reason}: {message}" for reason, message in found)
    return problems.problem(NOT_READY, detail)
