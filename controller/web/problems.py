"""What is wrong, on a page: a problem of the API as HTML, or the way to the login."""

import json
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api.problem_types import SEE_OPENAPI
from controller.api.problems import MEDIA_TYPE
from controller.web.pages import render

HOME: Final = "/"
MAX_NEXT: Final = 9_000
"""Characters: a reason of 500 characters in the query of a form's path may have 6,000."""
_ACTS: Final = "/do/"
"""Begins the paths of forms whose fields are kept where they cannot be taken."""
_MAX_KEPT_BYTES: Final = 16_384
_KEPT_HEADERS: Final = ("retry-after", "allow")


def safe_next(given: str | None) -> str:
    """Return where to go after the login: a path of this controller, whatever was given."""
    if not given or len(given) > MAX_NEXT or not given.isascii() or not given.isprintable():
        return HOME
    # Browsers read a backslash as a slash, and `//HOST` as another server.
    parts = urlsplit(given)
    if parts.scheme or parts.netloc or "\\" in given or not given.startswith("/"):
        return HOME
    return HOME if given.startswith("//") else given


class ProblemPages:
    """ASGI middleware that answers a browser with a page where the app answers with a problem.

    Args:
        app: the app behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not wants_page(Request(scope)):
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""
        typed = _Body(receive)

        async def sending(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_problem(message):
                start = message
            elif start is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    fields = await typed.fields(Request(scope), start["status"])
                    await _page(Request(scope), start, body, fields)(scope, receive, send)

        await self._app(scope, typed.receive, sending)


class _Body:
    """The body of a request, as it is read by the app; what the app refuses unread is read here.

    Args:
        receive: of the server.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = b""
        self._more = True

    async def receive(self) -> Message:
        """Receive as the server does, and keep the beginning."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes = (self._bytes + message.get("body", b""))[: _MAX_KEPT_BYTES + 1]
            self._more = message.get("more_body", False)
        else:
            self._more = False
        return message

    async def fields(self, request: Request, status: int) -> dict[str, str]:
        """Return what a person typed into the form of an act that could not be taken; else nothing."""
        if request.method != "POST" or not request.url.path.startswith(_ACTS):
            return {}
        if status not in (401, 503):
            return {}
        while self._more and len(self._bytes) <= _MAX_KEPT_BYTES:
            await self.receive()
        try:
            found = parse_qsl(self._bytes.decode(), max_num_fields=20)
        except ValueError:
            return {}
        return dict(found) if len(self._bytes) <= _MAX_KEPT_BYTES else {}


def wants_page(request: Request) -> bool:
    """Return whether a browser shows the answer to a person."""
    return "text/html" in request.headers.get("accept", "")


def _is_problem(start: Message) -> bool:
    return (b"content-type", MEDIA_TYPE.encode()) in start["headers"]


def _page(request: Request, start: Message, body: bytes, fields: dict[str, str]) -> Response:
    status: int = start["status"]
    problem = json.loads(body)
    is_followed = "hx-request" in request.headers
    if status == 401 and request.method in ("GET", "HEAD") and not is_followed:
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        # SameSite=Strict: a link in a mail or a chat brings no cookie; this page's own refresh does.
        if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return render(request, "continue.html", here=safe_next(here))
        why = {"why": "ended"} if "ended" in problem["detail"] else {}
        query = urlencode({**why, **({} if here == HOME else {"next": here})})
        return RedirectResponse(f"/login?{query}" if query else "/login", 303)
    hint = problem["hint"]
    if hint.endswith(SEE_OPENAPI):
        hint = "go back, or begin at the overview"
    answer = render(
        request,
        "problem.html",
        status=status,
        number=status,
        title=problem["title"],
        detail=problem["detail"],
        hint=hint,
        login=f"/login?{urlencode({'next': _page_of(request, fields)})}" if status == 401 else None,
        fields=fields if status != 401 else {},
    )
    for name, value in start["headers"]:
        if name.decode() in _KEPT_HEADERS:
            answer.headers[name.decode()] = value.decode()
    return answer


def _page_of(request: Request, fields: dict[str, str]) -> str:
    """Return the page of a form with what was typed; the overview if there is none."""
    scope = {**request.scope, "method": "GET"}
    for route in request.app.routes:
        for candidate in getattr(getattr(route, "original_router", None), "routes", [route]):
            if candidate.matches(scope)[0] is Match.FULL:
                return request.url.path + (f"?{urlencode(fields)}" if fields else "")
    return HOME
