"""Builds what the controller serves: the API, and the dashboard at all other paths."""

from fastapi import Depends, FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from contract import VERSION
from controller.api import app as api
from controller.api import problems
from controller.api.access import declared, routes_of
from controller.api.bounds import BoundedApp, BoundedHeaders
from controller.api.context import Context
from controller.api.problem_types import UNKNOWN
from controller.api.representation import Representation
from controller.api.same_site import SameSiteOnly
from controller.api.selection import check_query
from controller.api.watch.broadcaster import Broadcaster
from controller.web import pages
from controller.web.access import LoggedIn
from controller.web.headers import HEADERS, DefaultHeaders
from controller.web.problems import ProblemPages
from controller.web.routes import (
    act,
    audit,
    explain,
    login,
    matrix,
    network,
    node,
    notifications,
    overview,
    run,
    safety,
    sessions,
    static,
    stream,
)

_MODULES = (
    static, login, sessions, overview, matrix, node, network, run, audit, explain, safety, act, notifications,
    stream,
)  # fmt: skip
_COMPRESSED_FROM_BYTES = 1000


class Served:
    """The ASGI app of a controller: a path whose first part is one of the API's goes there.

    Attributes:
        api: the API.
        pages: the dashboard.
    """

    def __init__(self, context: Context) -> None:
        self.api = api.build(context)
        self.pages = build(context, self.api.state.broadcaster)
        # A browser reads a link to such a path as one to another server.
        self._nowhere = DefaultHeaders(
            problems.problem(UNKNOWN, "no path begins with two slashes", "leave one out"), HEADERS
        )
        self._of_api = {_first_part(route.path) for route in routes_of(self.api.routes)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and _first_part(scope["path"]) not in self._of_api
        chosen: ASGIApp = self.pages if is_page else self.api
        if scope["type"] == "http" and scope["path"].startswith("//"):
            chosen = self._nowhere
        await chosen(scope, receive, send)

    def end_streams(self) -> None:
        """End all streams of the API and of pages, and begin none."""
        self.api.state.broadcaster.close()


def build(context: Context, broadcaster: Broadcaster) -> FastAPI:
    """Build the dashboard.

    Raises:
        UndeclaredError: a route declares no role.
    """
    app = BoundedApp(
        title="vxlan-operator dashboard",
        version=VERSION,
        dependencies=[Depends(check_query)],
        max_body_size=api.MAX_BODY_BYTES,
        openapi_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    app.state.broadcaster = broadcaster
    for module in _MODULES:
        app.include_router(module.routes(context))
    routes = list(routes_of(app.routes))
    pages.install(app, (route.path for route in routes))
    app.add_middleware(Representation)
    app.add_middleware(GZipMiddleware, minimum_size=_COMPRESSED_FROM_BYTES, compresslevel=5)
    app.add_middleware(
        LoggedIn,
        database=context.database,
        open_routes=[route for route in routes if declared(route) is None],
        usage=context.usage,
        proxy=context.proxy,
    )
    app.add_middleware(SameSiteOnly, hosts=context.hosts)
    app.add_middleware(BoundedHeaders)
    app.add_middleware(problems.UnexpectedErrors)
    app.add_middleware(ProblemPages)
    app.add_middleware(DefaultHeaders, headers=HEADERS)
    return app


def _first_part(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""
