"""The routes: thin, each a query and its answer."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import FastAPI, Path, Query
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from contract import VERSION
from contract.verdicts import Mode
from controller import due, queries
from controller.api import problems
from controller.api.schema import (
    AuditAnswer,
    ClusterAnswer,
    DeviceAnswer,
    NetworkAnswer,
    NodeAnswer,
    RequeueAnswer,
    RunAnswer,
    StatusAnswer,
)
from controller.database import Database
from controller.models import Node
from controller.states import Priority

NodeName = Annotated[str, Path(max_length=255, description="id, unique id prefix or hostname")]
NodeFilter = Annotated[
    str | None, Query(max_length=255, description="id, unique id prefix or hostname")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="how many rows at most")]


def build(database: Database, *, mode: Mode, ring: Callable[[], None]) -> FastAPI:
    """Build the API.

    Args:
        database: what the answers come from.
        mode: what workers may do, to be told.
        ring: called when a node was made due.
    """
    app = FastAPI(title="vxlan-operator", version=VERSION)
    problems.install(app)

    def one(session: Session, node: str | None) -> Node | None:
        return None if node is None else queries.find_node(session, node)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether this process answers."""
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        """Whether the database answers and the Swarm's state could be read."""
        with database.read() as session:
            cluster = queries.cluster(session)
        if cluster is None:
            return problems.problem(503, "Not ready", "the Swarm has not been read yet")
        if cluster.sync_error is not None:
            return problems.problem(503, "Not ready", cluster.sync_error)
        return JSONResponse({"status": "ok"})

    @app.get("/api/v1/status")
    def status() -> StatusAnswer:
        """Everything at a glance."""
        with database.read() as session:
            cluster = queries.cluster(session)
            verdicts = queries.verdicts(session)
            return StatusAnswer(
                version=VERSION,
                mode=mode,
                cluster=None if cluster is None else ClusterAnswer.model_validate(cluster),
                nodes=[
                    NodeAnswer.of(node, verdicts.get(node.id, {}))
                    for node in queries.nodes(session)
                ],
            )

    @app.get("/api/v1/nodes")
    def nodes() -> list[NodeAnswer]:
        """The nodes of the Swarm."""
        return status().nodes

    @app.get("/api/v1/nodes/{node}")
    def node_detail(node: NodeName) -> NodeAnswer:
        """One node."""
        with database.read() as session:
            found = queries.find_node(session, node)
            return NodeAnswer.of(found, queries.verdicts(session).get(found.id, {}))

    @app.get("/api/v1/networks")
    def networks() -> list[NetworkAnswer]:
        """The overlay networks of the Swarm."""
        with database.read() as session:
            return [NetworkAnswer.of(*row) for row in queries.networks(session)]

    @app.get("/api/v1/devices")
    def devices(node: NodeFilter = None, limit: Limit = 1000) -> list[DeviceAnswer]:
        """The VXLAN devices that the last reports showed."""
        with database.read() as session:
            rows = queries.devices(session, one(session, node), limit)
            return [DeviceAnswer.of(*row) for row in rows]

    @app.get("/api/v1/runs")
    def runs(node: NodeFilter = None, limit: Limit = 100) -> list[RunAnswer]:
        """The newest runs first."""
        with database.read() as session:
            return [RunAnswer.of(*row) for row in queries.runs(session, one(session, node), limit)]

    @app.get("/api/v1/audit")
    def audit(
        node: NodeFilter = None,
        before: Annotated[
            int | None, Query(ge=1, lt=2**63, description="the last id of the page before")
        ] = None,
        limit: Limit = 100,
    ) -> list[AuditAnswer]:
        """The newest audit rows first."""
        with database.read() as session:
            rows = queries.audit(session, node=one(session, node), before=before, limit=limit)
            return [AuditAnswer.of(row) for row in rows]

    @app.post("/api/v1/nodes/{node}/requeue", status_code=202)
    def requeue(node: NodeName) -> RequeueAnswer:
        """Look at a node now, whatever its backoff says."""
        now = datetime.now(UTC)
        with database.write() as session:
            found = queries.find_node(session, node)
            due.request(
                session, [found.id], at=now, priority=Priority.MANUAL, reason="requeued by hand"
            )
            answer = RequeueAnswer(
                node_id=found.id,
                node_name=found.hostname,
                requested_at=now,
                waits_for_run=found.due.run_id,
            )
        ring()
        return answer

    return app
