"""What a person asks to be done goes before all else in this process, from the first byte on."""

from starlette.types import ASGIApp, Receive, Scope, Send

from controller import gate


class UrgentFirst:
    """ASGI middleware: whoever only asks what there is waits like everybody else.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] == "http" and scope["method"] == "POST":
            with gate.urgent():
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)
