"""`WaitingApi`: answers 503, with the reason, while the controller waits to start; a browser, by a page."""

import socket
import threading
from types import TracebackType
from typing import Final, Self

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from contract.runtime.errors import OperatorError
from contract.runtime.startup import UnavailableError
from controller.api import problems
from controller.api.problem_types import NOT_READY
from controller.process.http import HttpServer
from controller.process.tls import Tls
from controller.web import waiting

_STOP_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 2


class WaitingApi:
    """A context manager; the server starts with the first `tell`, and ends with the context.

    Connections that the kernel has not handed over by then are the next server's.
    """

    def __init__(self, listener: socket.socket, tls: Tls | None) -> None:
        self._listener = listener
        self._tls = tls
        self._error: OperatorError | None = None
        self._server: HttpServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_SECONDS)

    def tell(self, error: UnavailableError) -> None:
        """Answer with this error from now on."""
        self._error = error
        if self._server is None:
            self._server = HttpServer(self._answer, tls=self._tls, interface="asgi3")
            # Its own descriptor: the server closes it when it ends.
            sockets = [self._listener.dup()]
            self._thread = threading.Thread(
                target=self._server.run, args=(sockets,), name="waiting", daemon=True
            )
            self._thread.start()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._error
        answer: Response | None
        if scope["path"] == "/healthz" or error is None:
            answer = JSONResponse({"status": "ok"})
        else:
            answer = waiting.answer(Request(scope), error.problem, error.hint, _RETRY_SECONDS)
            answer = answer or problems.problem(
                NOT_READY,
                f"the controller waits to start: {error.problem}",
                error.hint,
                headers={"Retry-After": str(_RETRY_SECONDS)},
            )
        await answer(scope, receive, send)
