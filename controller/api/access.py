"""Authentication of every request by its token, and authorisation by the role that its route declares.

`Authenticated` (middleware) lets nothing pass without a valid token or a user of the trusted proxy, whatever
the path, but for the routes that declare `OPEN`. `authorise`, the dependency of `METRICS`, `READ`, `OPERATE`
and `ADMIN`, compares roles.
`check_declared` refuses to build an app with a route that declares none.
"""

import hashlib
import math
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Final, cast

from fastapi import APIRouter, Depends, FastAPI, Request, Security
from fastapi.params import Security as Declared
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer, SecurityScopes
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from controller.access import store
from controller.access.failed_logins import FailedLogins
from controller.access.roles import ForbiddenError, Identity
from controller.access.store import Identified, UnauthenticatedError
from controller.access.trusted_proxy import NoRoleError, ProxyHeadersError, TrustedProxy
from controller.access.usage import Usage
from controller.api import SAFE_METHODS, problems
from controller.api.problem_types import FAILED_LOGINS, FORBIDDEN, UNAUTHENTICATED
from controller.db.engine import Database, is_away
from controller.db.states import Role
from controller.runs import counters

IDENTITY: Final = "vxlan_operator.identity"
"""Under this key of the ASGI scope stands the caller, once known."""
_REALM: Final = 'Bearer realm="vxlan-operator"'
_READ_BY_POST: Final = frozenset({"/api/v1/explain", "/explain", "/logout", "/sessions/{id}/end"})
"""They change nothing, but for the caller's own login; a body is the only place for what they are given."""
_KNOWN_SECONDS: Final = 3600.0
_MAX_KNOWN: Final = 1000

BEARER: Final = HTTPBearer(
    scheme_name="token",
    bearerFormat="vxo_ID_SECRET",
    description="A token of `vxctl token create`. Roles: metrics < read < operate < admin.",
    auto_error=False,
)


def authorise(
    request: Request, needed: SecurityScopes, _: Annotated[object, Security(BEARER)]
) -> None:
    """Compare the caller's role with the one that the route declares: the only place that does.

    Raises:
        ForbiddenError: it is not enough.
    """
    caller = identity(request)
    for role in needed.scopes:
        if not caller.has(Role(role)):
            counters.TOKENS_REFUSED.labels(counters.INSUFFICIENT_ROLE).inc()
            raise ForbiddenError(caller, Role(role))


def public() -> None:
    """Declare a route that answers without a token."""


METRICS: Final = Security(authorise, scopes=[Role.METRICS.value])
READ: Final = Security(authorise, scopes=[Role.READ.value])
OPERATE: Final = Security(authorise, scopes=[Role.OPERATE.value])
ADMIN: Final = Security(authorise, scopes=[Role.ADMIN.value])
OPEN: Final = Security(public)
"""For `dependencies=[READ]` of a route: every route has exactly one of these."""


def identity(request: Request) -> Identity:
    """Return the caller of a request."""
    return cast("Identity", request.scope[IDENTITY])


def maybe_identity(request: Request) -> Identity | None:
    """Return the caller of a request; None: not known, as at a route that is open."""
    return cast("Identity | None", request.scope.get(IDENTITY))


Caller = Annotated[Identity, Depends(identity)]
"""As a parameter of a route: its caller."""


class UndeclaredError(Exception):
    """A route declares no role: a mistake of the program, found when it is built."""


def declared(route: APIRoute) -> Role | None:
    """Return the role that a route needs; None: it answers without a token.

    Raises:
        UndeclaredError: it declares not exactly one, or only lets read what changes something.
    """
    found = [
        dependency
        for dependency in route.dependencies
        if isinstance(dependency, Declared) and dependency.dependency in (authorise, public)
    ]
    if len(found) != 1:
        raise UndeclaredError(
            f"{route.path}: declare one role, as dependencies=[READ] (controller.api.access)"
        )
    if found[0].dependency is public:
        return None
    (role,) = map(Role, found[0].scopes or ())
    is_safe = set(route.methods or ()) <= SAFE_METHODS or route.path in _READ_BY_POST
    if not is_safe and role in (Role.METRICS, Role.READ):
        raise UndeclaredError(
            f"{route.path}: a route that changes something needs OPERATE or ADMIN"
        )
    return role


def check_declared(app: FastAPI) -> frozenset[str]:
    """Check that every route declares a role; return the paths that answer without a token.

    Raises:
        UndeclaredError: a route declares none, or is none of ours (a mount, FastAPI's own pages), which no
            dependency would guard.
    """
    return frozenset(route.path for route in routes_of(app.routes) if declared(route) is None)


def routes_of(routes: Iterable[BaseRoute]) -> Iterator[APIRoute]:
    """Yield all routes of an app, those of its routers too; raise `UndeclaredError` for another kind."""
    for route in routes:
        router = getattr(route, "original_router", None)
        if isinstance(router, APIRouter):
            yield from routes_of(router.routes)
        elif isinstance(route, APIRoute):
            yield route
        else:
            path = getattr(route, "path", route)
            raise UndeclaredError(f"{path}: only routes of FastAPI's routers can declare a role")


class _Known:
    """Tokens that were valid at their last use, for while the database is away.

    All that is answered then is what the process itself knows, such as that the database is away.
    """

    def __init__(self) -> None:
        self._by_digest: dict[bytes, tuple[Identified, float]] = {}

    def get(self, token: str) -> Identified | None:
        """Return the owner of a token that was valid within the last hour."""
        found, at = self._by_digest.get(_digest(token), (None, 0.0))
        return found if time.monotonic() - at < _KNOWN_SECONDS else None

    def remember(self, token: str, found: Identified) -> None:
        """Remember a valid token, and forget the one that was remembered first if there are too many."""
        self._by_digest[_digest(token)] = (found, time.monotonic())
        if len(self._by_digest) > _MAX_KNOWN:
            del self._by_digest[next(iter(self._by_digest))]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Authenticated:
    """ASGI middleware that answers 401 to every request without a valid token or a user of the proxy.

    Args:
        app: the app behind it.
        open_paths: the paths that answer without a token.
        usage: is told which token was used.
        proxy: names the user where a request has no token; None: nobody does.
    """

    def __init__(
        self,
        app: ASGIApp,
        database: Database,
        open_paths: frozenset[str],
        usage: Usage,
        proxy: TrustedProxy | None,
    ) -> None:
        self._app = app
        self._database = database
        self._open_paths = open_paths
        self._usage = usage
        self._proxy = proxy
        self._database_errors = problems.DatabaseErrors()
        self._known = _Known()
        self._failed = FailedLogins()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self._app
        if scope["type"] != "lifespan" and scope["path"] not in self._open_paths:
            refusal = await self._authenticate(scope)
            answer = self._app if refusal is None else refusal
        await answer(scope, receive, send)

    async def _authenticate(self, scope: Scope) -> Response | None:
        """Store the caller in the scope; return an answer if there is none."""
        given = Headers(scope=scope).getlist("authorization")
        if not given:
            return self._take_from_proxy(scope)
        scheme, _, token = given[0].partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer":
            return _unauthenticated(
                "the header Authorization must be given once, as `Bearer TOKEN`"
            )
        token, now = token.strip(" "), datetime.now(UTC)
        try:
            found = await run_in_threadpool(self._identify, token, now)
        except UnauthenticatedError as error:
            return self._refused(scope, str(error))
        except SQLAlchemyError as error:
            known = self._known.get(token)
            if known is None or not is_away(error):
                return self._database_errors(Request(scope), error)
            found = known
        else:
            self._known.remember(token, found)
            self._usage.note(found.id, now)
        scope[IDENTITY] = found.identity
        return None

    def _take_from_proxy(self, scope: Scope) -> Response | None:
        """Store the user whom the trusted proxy names in the scope; return an answer if there is none."""
        caller = None
        try:
            if self._proxy is not None:
                caller = self._proxy.identify(client_address(scope), Headers(scope=scope).getlist)
        except ProxyHeadersError as error:
            return _unauthenticated(str(error), hint=error.hint)
        except NoRoleError as error:
            return problems.problem(FORBIDDEN, str(error), error.hint)
        if caller is None:
            return _unauthenticated("this needs a token, and the request has none")
        scope[IDENTITY] = caller
        return None

    def _refused(self, scope: Scope, detail: str) -> Response:
        """Answer a request with an invalid token: 401, or 429 if too many came from the client's address."""
        counters.TOKENS_REFUSED.labels(counters.INVALID_TOKEN).inc()
        address = client_address(scope)
        seconds = self._failed.wait(address)
        if not seconds:
            return _unauthenticated(detail, ', error="invalid_token"')
        wait = math.ceil(seconds)
        return problems.problem(
            FAILED_LOGINS,
            f"too many failed logins from {address}: wait {wait} s",
            headers={"Retry-After": str(wait)},
        )

    def _identify(self, token: str, now: datetime) -> Identified:
        with self._database.read() as session:
            return store.identify(session, token, now)


def client_address(scope: Scope) -> str:
    """Return the address of the connection's other end; "": not known.

    The server takes it from no header (`controller.process.http`): a client could choose it.
    """
    return scope["client"][0] if scope.get("client") else ""


def _unauthenticated(detail: str, parameters: str = "", hint: str = "") -> Response:
    headers = {"WWW-Authenticate": _REALM + parameters}
    return problems.problem(UNAUTHENTICATED, detail, hint, headers=headers)
