"""How JSON answers are represented: `fields=`, ETag with If-None-Match, and HEAD as GET without a body."""

import hashlib
import json
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api.selection import SCOPE_KEY, select

JSON: Final = b"application/json"
_NO_BODY: Final[Message] = {"type": "http.response.body", "body": b"", "more_body": False}


class Representation:
    """ASGI middleware that selects fields, and answers 304 where the client has the answer already.

    An ETag is a hash of the body: two answers with the same one are equal byte for byte. It saves the
    transfer and the client's parsing, not the controller's work.

    Args:
        app: the app behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, receive, send)
        await self._app(answer.scope, answer.receive, answer.send)


class _Answer:
    """One answer on its way to the client."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope if scope["method"] == "GET" else dict(scope, method="GET")
        self._receive = receive
        self._send = send
        self._is_head = scope["method"] == "HEAD"
        self._start: Message | None = None
        self._is_done = False

    async def receive(self) -> Message:
        """Receive the request; after HEAD has been answered, the client is gone."""
        if self._is_done:
            return {"type": "http.disconnect"}
        return await self._receive()

    async def send(self, message: Message) -> None:
        """Pass an answer on; a JSON answer only when its body is known."""
        if self._is_done:
            return
        if message["type"] == "http.response.start":
            if _is_json(message):
                self._start = message
            else:
                await self._send(message)
                if self._is_head:
                    await self._finish(_NO_BODY)
        elif self._start is None or message.get("more_body"):
            await self._flush()
            await self._send(message)
        else:
            start, self._start = self._start, None
            await self._send_json(start, message["body"])

    async def _flush(self) -> None:
        start, self._start = self._start, None
        if start is not None:
            await self._send(start)

    async def _send_json(self, start: Message, body: bytes) -> None:
        wanted = self.scope.get(SCOPE_KEY)
        if wanted is not None:
            chosen = select(json.loads(body), wanted)
            body = json.dumps(chosen, ensure_ascii=False, separators=(",", ":")).encode()
        headers = MutableHeaders(raw=start["headers"])
        etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        headers["ETag"] = etag
        headers["Content-Length"] = str(len(body))
        if _has(Headers(scope=self.scope).get("if-none-match"), etag):
            start["status"], body = 304, b""
            del headers["Content-Length"], headers["Content-Type"]
        await self._send(start)
        await self._finish({**_NO_BODY, "body": b"" if self._is_head else body})

    async def _finish(self, message: Message) -> None:
        self._is_done = True
        await self._send(message)


def _is_json(start: Message) -> bool:
    headers: list[tuple[bytes, bytes]] = start["headers"]
    return start["status"] == 200 and (b"content-type", JSON) in headers


def _has(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this answer (RFC 9110, 13.1.2); a proxy may have made the ETag a weak one."""
    if if_none_match is None:
        return False
    known = [text.strip().removeprefix("W/") for text in if_none_match.split(",")]
    return "*" in known or etag in known
