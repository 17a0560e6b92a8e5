"""Builds the ASGI app from routes, middleware and error handlers."""

from typing import Final

from fastapi import Depends, FastAPI

from contract import VERSION
from controller.api import problems, specification
from controller.api.access import Authenticated, check_declared
from controller.api.bounds import BoundedApp, BoundedHeaders
from controller.api.context import Context
from controller.api.json_only import JsonOnly
from controller.api.representation import Representation
from controller.api.routes import (
    audit,
    chain,
    controller_keys,
    devices,
    diff,
    events,
    explain,
    join_tokens,
    metrics,
    networks,
    node_keys,
    nodes,
    notifications,
    openapi,
    problem_pages,
    requeue,
    runs,
    safety,
    status,
    tokens,
    version,
    watch,
)
from controller.api.same_site import SameSiteOnly
from controller.api.selection import check_query
from controller.api.watch.broadcaster import Broadcaster

MAX_BODY_BYTES: Final = 64 * 1024
"""Of a request; the longest is a decision with a reason of 500 characters."""

# The first path that matches answers: `chain` (/audit/verify) must come before `audit` (/audit/{id}).
_MODULES = (
    status, version, nodes, networks, devices, runs, requeue, safety, events, diff, chain, audit, explain,
    metrics, openapi, problem_pages, tokens,
    controller_keys, node_keys, join_tokens, notifications,
)  # fmt: skip


def build(context: Context) -> FastAPI:
    """Build the API.

    Raises:
        UndeclaredError: a route declares no role.
    """
    app = BoundedApp(
        title="vxlan-operator",
        version=VERSION,
        dependencies=[Depends(check_query)],
        max_body_size=MAX_BODY_BYTES,
        # FastAPI's own pages need no role, and load their scripts from other servers; `openapi` serves the
        # specification.
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=specification.operation_id,
    )
    problems.install(app)
    app.add_middleware(Representation)
    broadcaster = Broadcaster(context.database)
    app.state.broadcaster = broadcaster
    app.state.end_streams = broadcaster.close
    app.include_router(watch.routes(context, broadcaster))
    for module in _MODULES:
        app.include_router(module.routes(context))
    app.add_middleware(
        Authenticated,
        database=context.database,
        open_paths=check_declared(app),
        usage=context.usage,
        proxy=context.proxy,
    )
    app.add_middleware(SameSiteOnly, hosts=context.hosts)
    app.add_middleware(JsonOnly)
    app.add_middleware(BoundedHeaders)
    app.add_middleware(problems.UnexpectedErrors)
    specification.install(app)
    return app
