"""Bounds of requests: refuses long headers, URLs and bodies, and bodies of two lengths."""

from typing import Final

from anyio import BrokenResourceError
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api import problem_types as types
from controller.api import problems

MAX_HEADERS: Final = 100
MAX_BYTES: Final = 32 * 1024
"""Of all headers together, and of the URL."""


class BoundedHeaders:
    """Refuses long headers (431) and URLs (414), and a body with two lengths (400).

    Args:
        app: the app behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._app
        if scope["type"] == "http":
            headers = scope["headers"]
            size = sum(len(name) + len(value) for name, value in headers)
            if {b"content-length", b"transfer-encoding"} <= {name for name, _ in headers}:
                # A proxy in front may believe the one, and this server the other (RFC 9112, 6.1): what
                # is the body to one of them is another request to the other.
                answer = problems.problem(
                    types.MALFORMED,
                    "the request has both Content-Length and Transfer-Encoding",
                    "send one of them",
                    headers={"Connection": "close"},
                )
            elif len(headers) > MAX_HEADERS or size > MAX_BYTES:
                detail = f"the request has {len(headers)} headers of {size} bytes"
                answer = problems.problem(types.HEADERS, detail)
            elif len(scope["raw_path"]) + len(scope["query_string"]) > MAX_BYTES:
                detail = f"the URL of the request has over {MAX_BYTES} bytes"
                answer = problems.problem(types.LONG_URI, detail)
        await answer(scope, receive, send)


class BoundedApp(FastAPI):
    """FastAPI, whose plain text about an announced body that is too long becomes a problem (413)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def sending(message: Message) -> None:
            nonlocal replaced
            if replaced:
                return
            if message["type"] == "http.response.start" and message["status"] == 413:
                kinds = [value for name, value in message["headers"] if name == b"content-type"]
                if kinds and kinds[0].startswith(b"text/plain"):
                    replaced = True
                    await problems.too_large()(scope, receive, send)
                    return
            await send(message)

        try:
            await super().__call__(scope, receive, sending)
        except* BrokenResourceError:
            pass  # FastAPI could not send a server-sent event: the client has left.
