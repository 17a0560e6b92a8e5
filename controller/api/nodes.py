"""Routes about nodes, networks, devices and runs: what is."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from contract import VERSION
from controller import queries
from controller.api import problems
from controller.api.context import Context
from controller.api.parameters import Limit, NodeFilter, NodeName
from controller.api.schema import (
    ClusterAnswer,
    DeviceAnswer,
    NetworkAnswer,
    NodeAnswer,
    RunAnswer,
    StatusAnswer,
)


def routes(context: Context) -> APIRouter:
    """Build them."""
    router = APIRouter()
    database = context.database

    @router.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether this process answers."""
        return {"status": "ok"}

    @router.get("/readyz")
    def readyz() -> JSONResponse:
        """Whether the database answers and the Swarm's state could be read."""
        with database.read() as session:
            cluster = queries.cluster(session)
        if cluster is None:
            return problems.problem(503, "Not ready", "the Swarm has not been read yet")
        if cluster.sync_error is not None:
            return problems.problem(503, "Not ready", cluster.sync_error)
        return JSONResponse({"status": "ok"})

    @router.get("/api/v1/status")
    def status() -> StatusAnswer:
        """Everything at a glance."""
        with database.read() as session:
            cluster = queries.cluster(session)
            verdicts = queries.verdicts(session)
            return StatusAnswer(
                version=VERSION,
                mode=context.mode,
                leader=queries.leader(session),
                leading=context.leading(),
                cluster=None if cluster is None else ClusterAnswer.model_validate(cluster),
                nodes=[
                    NodeAnswer.of(node, verdicts.get(node.id, {}))
                    for node in queries.nodes(session)
                ],
            )

    @router.get("/api/v1/nodes")
    def nodes() -> list[NodeAnswer]:
        """The nodes of the Swarm."""
        return status().nodes

    @router.get("/api/v1/nodes/{node}")
    def node_detail(node: NodeName) -> NodeAnswer:
        """One node."""
        with database.read() as session:
            found = queries.find_node(session, node)
            return NodeAnswer.of(found, queries.verdicts(session).get(found.id, {}))

    @router.get("/api/v1/networks")
    def networks() -> list[NetworkAnswer]:
        """The overlay networks of the Swarm."""
        with database.read() as session:
            return [NetworkAnswer.of(*row) for row in queries.networks(session)]

    @router.get("/api/v1/devices")
    def devices(node: NodeFilter = None, limit: Limit = 1000) -> list[DeviceAnswer]:
        """The VXLAN devices that the last reports showed."""
        with database.read() as session:
            rows = queries.devices(session, queries.maybe_node(session, node), limit)
            return [DeviceAnswer.of(*row) for row in rows]

    @router.get("/api/v1/runs")
    def runs(node: NodeFilter = None, limit: Limit = 100) -> list[RunAnswer]:
        """The newest runs first."""
        with database.read() as session:
            rows = queries.runs(session, queries.maybe_node(session, node), limit)
            return [RunAnswer.of(*row) for row in rows]

    return router
