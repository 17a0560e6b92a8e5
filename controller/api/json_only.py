"""Refuses bodies that are not JSON: what a form of a web page can send."""

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from controller.api import SAFE_METHODS, problems
from controller.api.problem_types import MEDIA_TYPE

_JSON: Final = "application/json"
_MAX_SHOWN: Final = 100


class JsonOnly:
    """ASGI middleware that answers 415 to a body, or a form's empty one, that is not declared as JSON.

    Args:
        app: the app behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._app
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            headers = Headers(scope=scope)
            given = headers.get("content-type")
            has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
            kind = (given or "").partition(";")[0].strip().lower()
            if kind != _JSON and (given is not None or has_body):
                detail = (
                    f"the body's type is {given[:_MAX_SHOWN]!r}"
                    if given
                    else "the body has no type"
                )
                answer = problems.problem(MEDIA_TYPE, detail)
        await answer(scope, receive, send)
