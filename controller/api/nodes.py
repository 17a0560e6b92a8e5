"""Routes about nodes, networks, devices and runs: what is."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from contract import VERSION
from contract.verdicts import Verdict
from controller.api import problems
from controller.api.answers.cluster import ClusterAnswer, StatusAnswer
from controller.api.answers.devices import DeviceAnswer
from controller.api.answers.networks import NetworkAnswer, NetworkDetailAnswer
from controller.api.answers.nodes import NodeAnswer, NodeDetailAnswer
from controller.api.answers.runs import RunAnswer
from controller.api.context import Context
from controller.api.parameters import After, Limit, NetworkName, NodeFilter, NodeName
from controller.conditions.cluster import desired_state
from controller.conditions.facts import cluster_facts
from controller.conditions.model import Status
from controller.db import lookup
from controller.db.models import Node
from controller.db.states import RunState
from controller.views import queries
from controller.views.queries import DeviceKey

_MAX_ROWS: Final = 1000
"""Rows in one answer."""

NetworkFilter = Annotated[
    str | None, Query(max_length=255, description="id, unique id prefix or name")
]
AfterDevice = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9a-z]{25}/(host|nsid:[0-9]{1,10})/[0-9]{1,9}$",
        description="NODE_ID/PLACE/IFINDEX of the last row of the page before",
    ),
]
BeforeRun = Annotated[UUID | None, Query(description="id of the last row of the page before")]


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
        """Whether the database answers and desired state is what the Swarm says."""
        with database.read() as session:
            cluster = queries.cluster(session)
        if cluster is None:
            return problems.problem(503, "Not ready", "the Swarm has not been read yet")
        # Worked out here and now: what is stored may be a second old.
        known = desired_state(
            cluster_facts(cluster, context.mode, datetime.now(UTC), context.stale_after)
        )
        if known.status != Status.TRUE:
            return problems.problem(503, "Not ready", f"{known.reason}: {known.message}")
        return JSONResponse({"status": "ok"})

    @router.get("/api/v1/status")
    def status_(limit: Limit = 100) -> StatusAnswer:
        """Everything at a glance."""
        with database.read() as session:
            cluster = queries.cluster(session)
            readiness: dict[str, dict[str, int]] = {}
            for (ready, reason), count in queries.readiness(session).items():
                readiness.setdefault(ready, {})[reason] = count
            return StatusAnswer(
                version=VERSION,
                mode=context.mode,
                leader=queries.leader(session),
                leading=context.leading(),
                cluster=None if cluster is None else ClusterAnswer.model_validate(cluster),
                readiness=readiness,
                nodes=_nodes(session, queries.troubled_first(session, limit)),
            )

    @router.get("/api/v1/nodes")
    def nodes(
        after: After = None, ready: Status | None = None, limit: Limit = _MAX_ROWS
    ) -> list[NodeAnswer]:
        """The nodes of the Swarm, by hostname."""
        with database.read() as session:
            return _nodes(session, queries.nodes(session, after=after, ready=ready, limit=limit))

    @router.get("/api/v1/nodes/{node}")
    def node_detail(node: NodeName) -> NodeDetailAnswer:
        """One node, with what it should carry and what was seen there."""
        with database.read() as session:
            found = lookup.find_node(session, node)
            (answer,) = _nodes(session, [found])
            return NodeDetailAnswer.with_details(
                answer,
                queries.attachments_of_node(session, found),
                queries.devices(session, node=found, limit=_MAX_ROWS),
            )

    @router.get("/api/v1/networks")
    def networks(after: After = None, limit: Limit = _MAX_ROWS) -> list[NetworkAnswer]:
        """The overlay networks of the Swarm, by name."""
        with database.read() as session:
            rows = queries.networks(session, after=after, limit=limit)
            return [NetworkAnswer.of(*row) for row in rows]

    @router.get("/api/v1/networks/{network}")
    def network_detail(network: NetworkName) -> NetworkDetailAnswer:
        """One network, with who should carry it and what was seen of it."""
        with database.read() as session:
            found = lookup.find_network(session, network)
            nodes = queries.carriers(session, [found]).get(found.id, 0)
            return NetworkDetailAnswer.with_details(
                NetworkAnswer.of(found, nodes),
                queries.attachments_of_network(session, found, _MAX_ROWS),
                queries.devices(session, network=found, limit=_MAX_ROWS),
            )

    @router.get("/api/v1/devices")
    def devices(
        node: NodeFilter = None,
        network: NetworkFilter = None,
        verdict: Verdict | None = None,
        after: AfterDevice = None,
        limit: Limit = _MAX_ROWS,
    ) -> list[DeviceAnswer]:
        """The VXLAN devices that the last reports showed, node by node."""
        with database.read() as session:
            rows = queries.devices(
                session,
                node=lookup.maybe_node(session, node),
                network=None if network is None else lookup.find_network(session, network),
                verdict=verdict,
                after=None if after is None else _device_key(after),
                limit=limit,
            )
            return [DeviceAnswer.of(*row) for row in rows]

    @router.get("/api/v1/runs")
    def runs(
        node: NodeFilter = None,
        state: RunState | None = None,
        before: BeforeRun = None,
        limit: Limit = 100,
    ) -> list[RunAnswer]:
        """The newest runs first."""
        with database.read() as session:
            rows = queries.runs(
                session,
                node=lookup.maybe_node(session, node),
                state=state,
                before=before,
                limit=limit,
            )
            return [RunAnswer.of(*row) for row in rows]

    return router


def _nodes(session: Session, nodes: Sequence[Node]) -> list[NodeAnswer]:
    verdicts = queries.verdicts(session, nodes)
    errors = queries.last_errors(session, nodes)
    return [NodeAnswer.of(node, verdicts.get(node.id, {}), errors) for node in nodes]


def _device_key(given: str) -> DeviceKey:
    node_id, netns, ifindex = given.split("/")
    return DeviceKey(node_id, netns, int(ifindex))
