"""Who is at a browser: the session of its cookie, or the user that the trusted proxy names.

The cookie is good for pages alone, a token for the API alone: no page of another site can use the one, and
scripts need no cookies. Routes of pages declare their role as the API's do (`controller.api.access`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from controller.access import sessions
from controller.access.sessions import Found
from controller.access.store import UnauthenticatedError
from controller.access.trusted_proxy import NoRoleError, ProxyHeadersError, TrustedProxy
from controller.access.usage import Usage
from controller.api import problems
from controller.api.access import IDENTITY, client_address
from controller.api.problem_types import FORBIDDEN, UNAUTHENTICATED
from controller.api.watch.topic import Ended
from controller.db.engine import Database

_SESSION: Final = "vxlan_operator.session"
"""Under this key of the ASGI scope stands the session, if the caller has one."""
_SECURE_COOKIE: Final = "__Host-vxlan-operator"
_PLAIN: Final = "over plain HTTP a browser can log in at loopback only"


class PlainHttpError(Exception):
    """The browser would have to send its session in the clear; `hint` says what to do."""

    hint = (
        "use https (VXLAN_OPERATOR_LISTEN_CERT, or a proxy with TLS), or a tunnel to loopback: "
        "`ssh -L 8479:localhost:8479 HOST`, then http://localhost:8479"
    )


def session_of(request: Request) -> Found | None:
    """Return the caller's session; None: the proxy named the caller."""
    found: Found | None = request.scope.get(_SESSION)
    return found


def check_way(request: Request) -> None:
    """Refuse to ask for a token that would be sent in the clear.

    Raises:
        PlainHttpError: neither TLS nor loopback.
    """
    # A GET has no Origin. Behind a proxy with TLS the browser's Sec-Fetch-Site says it: plain HTTP has none.
    if "sec-fetch-site" not in request.headers and not (
        _is_secure(request) or _is_loopback(request)
    ):
        raise PlainHttpError(_PLAIN)


def longest(request: Request) -> timedelta:
    """Return after which time a session ends that begins with this request."""
    return sessions.LONGEST if _is_secure(request) else sessions.LONGEST_PLAIN


def set_cookie(request: Request, response: Response, secret: str) -> None:
    """Give the browser its session.

    Raises:
        PlainHttpError: neither TLS nor loopback.
    """
    secure = _is_secure(request)
    if not secure and not _is_loopback(request):
        raise PlainHttpError(_PLAIN)
    response.set_cookie(
        _SECURE_COOKIE if secure else _plain_cookie(request),
        secret,
        max_age=int(longest(request).total_seconds()),
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def delete_cookies(request: Request, response: Response) -> None:
    """Let the browser forget its session."""
    for name, secure in ((_SECURE_COOKIE, True), (_plain_cookie(request), False)):
        if name in request.cookies:
            response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="strict")


def cookie(request: Request) -> str | None:
    """Return the secret of the browser's session; None: it sent none."""
    found = request.cookies.get(_SECURE_COOKIE)
    # Another server of the same machine can set a cookie without the prefix, but only for its own host.
    if found is None and request.url.scheme == "http" and _is_loopback(request):
        found = request.cookies.get(_plain_cookie(request))
    return found


def _is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, to this server or to a proxy: `Origin` is the browser's word."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:")


def _is_loopback(request: Request) -> bool:
    host = (request.url.hostname or "").strip("[]")
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _plain_cookie(request: Request) -> str:
    """Cookies are for all ports of a host: tunnels to two controllers each have their own."""
    return f"vxlan-operator-{request.url.port or 80}"


class LoggedIn:
    """ASGI middleware that answers 401 to every request without a session or a user of the proxy.

    Args:
        app: the app behind it.
        database: has the sessions.
        open_routes: the routes that answer to everybody.
        usage: is told which session and token was used.
        proxy: names the user where a request has no session; None: nobody does.
    """

    def __init__(
        self,
        app: ASGIApp,
        database: Database,
        open_routes: Iterable[APIRoute],
        usage: Usage,
        proxy: TrustedProxy | None,
    ) -> None:
        self._app = app
        self._database = database
        self._open = [route.path_regex for route in open_routes]
        self._usage = usage
        self._proxy = proxy
        self._database_errors = problems.DatabaseErrors()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self._app
        if scope["type"] == "http" and not any(path.match(scope["path"]) for path in self._open):
            answer = await self._refusal(Request(scope)) or self._app
        await answer(scope, receive, send)

    async def _refusal(self, request: Request) -> Response | None:
        """Store the caller in the scope; return an answer if there is none."""
        secret, now = cookie(request), datetime.now(UTC)
        why = "this page needs a login"
        if secret is not None:
            try:
                found = await run_in_threadpool(self._identify, secret, now)
            except UnauthenticatedError as error:
                why = str(error)
            except SQLAlchemyError as error:
                return self._database_errors(request, error)
            else:
                self._usage.note(found.token_id, now)
                self._usage.note_session(found.id, now)
                request.scope[IDENTITY], request.scope[_SESSION] = found.identity, found
                return None
        try:
            caller = self._proxy and self._proxy.identify(
                client_address(request.scope), request.headers.getlist
            )
        except ProxyHeadersError as error:
            return problems.problem(UNAUTHENTICATED, str(error), error.hint)
        except NoRoleError as error:
            return problems.problem(FORBIDDEN, str(error), error.hint)
        if caller is None:
            return problems.problem(UNAUTHENTICATED, why, "log in with a token")
        request.scope[IDENTITY] = caller
        return None

    def _identify(self, secret: str, now: datetime) -> Found:
        with self._database.read() as session:
            return sessions.identify(session, secret, now)


@dataclass(frozen=True, slots=True)
class StillLoggedIn:
    """Whether a session is still valid, for a stream; equal for all streams of a session.

    A page that is followed is in use, so the session does not become idle.
    """

    id: str
    secret: str = field(repr=False)
    usage: Usage = field(repr=False, compare=False)

    def __call__(self, session: Session) -> Ended | None:
        now = datetime.now(UTC)
        try:
            sessions.identify(session, self.secret, now)
        except UnauthenticatedError as error:
            return Ended(UNAUTHENTICATED, str(error))
        self.usage.note_session(self.id, now)
        return None
