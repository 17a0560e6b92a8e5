"""Builds the ASGI app from routes, middleware and error handlers."""

from typing import Final

from fastapi import Depends, FastAPI

from contract import VERSION
from controller.api import problems, specification
from controller.api.bounds import BoundedApp, BoundedHeaders
from controller.api.context import Context
from controller.api.representation import Representation
from controller.api.routes import (
    audit,
    chain,
    devices,
    diff,
    events,
    explain,
    metrics,
    networks,
    nodes,
    requeue,
    runs,
    safety,
    status,
    version,
)
from controller.api.same_site import SameSiteOnly
from controller.api.selection import check_query

MAX_BODY_BYTES: Final = 64 * 1024
"""Of a request; the longest is a decision with a reason of 500 characters."""

# The first path that matches answers: `chain` (/audit/verify) must come before `audit` (/audit/{id}).
_MODULES = (
    status, version, nodes, networks, devices, runs, requeue, safety, events, diff, chain, audit, explain,
    metrics,
)  # fmt: skip


def build(context: Context) -> FastAPI:
    """Build the API."""
    app = BoundedApp(
        title="vxlan-operator",
        version=VERSION,
        dependencies=[Depends(check_query)],
        max_body_size=MAX_BODY_BYTES,
        # FastAPI's pages load their scripts from other servers.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=specification.operation_id,
    )
    problems.install(app)
    app.add_middleware(Representation)
    app.add_middleware(SameSiteOnly, hosts=context.hosts)
    app.add_middleware(BoundedHeaders)
    for module in _MODULES:
        app.include_router(module.routes(context))
    specification.install(app)
    return app
