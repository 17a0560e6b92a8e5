"""Errors as problem details (RFC 9457): `detail` says what is wrong, `hint` what to do."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.runtime.throttle import Throttle
from controller.access.roles import ForbiddenError
from controller.access.sessions import NoSessionError
from controller.access.store import NameTakenError, NoTokenError
from controller.api import problem_types as types
from controller.api.cursor import CursorError
from controller.api.parameters import ContradictionError, ParameterError
from controller.api.problem_types import ProblemType
from controller.api.turns import RETRY_AFTER_SECONDS, BusyError, TooManyWatchersError
from controller.audit.export import PrunedError
from controller.db.engine import database_message, is_away
from controller.db.lookup import AmbiguousError, UnknownError
from controller.notifications.errors import TargetError
from controller.notifications.targets import NoTargetError, TargetTakenError
from controller.trust.store import KeyStateError, NoKeyError
from controller.views.queries import NoClusterError
from controller.workqueue.requeue import PausedError, TokenTakenError

log = structlog.get_logger(__name__)

_LOG_PERIOD_SECONDS: Final = 60.0
"""Between two log lines about an unavailable database: every client asks again, and the disk may be full."""

MEDIA_TYPE: Final = "application/problem+json"

_PROBLEMS: Final[Mapping[type[Exception], ProblemType]] = {
    ForbiddenError: types.FORBIDDEN,
    NameTakenError: types.NAME_TAKEN,
    NoTokenError: types.UNKNOWN,
    NoTargetError: types.UNKNOWN,
    TargetTakenError: types.NAME_TAKEN,
    TargetError: types.TARGET_REFUSED,
    NoSessionError: types.UNKNOWN,
    NoKeyError: types.UNKNOWN,
    KeyStateError: types.KEY_STATE,
    ParameterError: types.INVALID,
    ContradictionError: types.CONTRADICTION,
    CursorError: types.NO_PAGE,
    UnknownError: types.UNKNOWN,
    AmbiguousError: types.AMBIGUOUS,
    NoClusterError: types.NO_CLUSTER,
    PausedError: types.PAUSED,
    TokenTakenError: types.TOKEN_TAKEN,
    PrunedError: types.PRUNED,
}
"""The problems of errors; their message is the detail, and their own `hint`, if any, takes precedence."""

_LATER: Final[Mapping[type[Exception], ProblemType]] = {
    BusyError: types.BUSY,
    TooManyWatchersError: types.WATCHERS,
}
"""The same of errors that a later attempt does not meet."""
_RETRY_AFTER: Final = {"Retry-After": str(RETRY_AFTER_SECONDS)}

_BY_STATUS: Final[Mapping[int, ProblemType]] = {
    kind.status: kind for kind in (types.MALFORMED, types.UNKNOWN, types.METHOD, types.MEDIA_TYPE)
}
"""The problems of errors that the framework raises."""


def problem(
    kind: ProblemType,
    detail: str,
    hint: str = "",
    *,
    error_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an answer that says what is wrong and what to do about it.

    Args:
        hint: instead of the hint of its kind.
        error_id: the id under which the controller's log has the error.
    """
    body: dict[str, str | int] = {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "hint": hint or kind.hint,
    }
    if error_id is not None:
        body["error_id"] = error_id
    return JSONResponse(body, kind.status, headers, MEDIA_TYPE)


def too_large() -> JSONResponse:
    """Return the answer to a request whose body is over the limit."""
    return problem(types.TOO_LARGE, "the body of the request is too large")


def _handler(
    kind: ProblemType, headers: Mapping[str, str] | None = None
) -> Callable[[Request, Exception], JSONResponse]:
    return lambda _, error: problem(kind, str(error), getattr(error, "hint", ""), headers=headers)


class DatabaseErrors:
    """Answers errors of the database: 503 if trying again may help, otherwise 500; logs both."""

    def __init__(self) -> None:
        self._throttle = Throttle(_LOG_PERIOD_SECONDS)

    def __call__(self, request: Request, error: Exception) -> JSONResponse:
        """Answer a request that failed with this error."""
        if not (isinstance(error, SQLAlchemyError) and is_away(error)):
            return _internal(request.url.path, error)
        message = database_message(error)
        if self._throttle.is_due():
            log.warning("the database cannot be used", error=message, path=request.url.path)
        return problem(types.DATABASE, f"the controller's database cannot be used: {message}")


class UnexpectedErrors:
    """ASGI middleware: an error that nothing else answers is a problem, and one entry of the log.

    If the answer has begun already, the error is left to the server, which logs it and cuts the answer.

    Args:
        app: the app behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http" or has_begun:
                raise
            await _internal(scope["path"], error)(scope, receive, send)


def _internal(path: str, error: Exception) -> JSONResponse:
    """Log an error of the controller, and return the answer to the request that met it."""
    error_id = uuid4().hex[:12]
    log.error("a request failed", error_id=error_id, path=path, exc_info=error)
    return problem(
        types.INTERNAL,
        f"the controller failed to answer (error_id {error_id})",
        f"search the controller's log for {error_id}, and run `vxctl db check`",
        error_id=error_id,
    )


def install(app: FastAPI) -> None:
    """Answer every error of the API with problem details."""
    for kind, known in _PROBLEMS.items():
        app.add_exception_handler(kind, _handler(known))
    for kind, known in _LATER.items():
        app.add_exception_handler(kind, _handler(known, _RETRY_AFTER))
    app.add_exception_handler(SQLAlchemyError, DatabaseErrors())

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        details = [
            f"{'.'.join(map(str, part['loc'][1:]))}: {part['msg'].removeprefix('Value error, ')}"
            for part in error.errors()
        ]
        return problem(types.INVALID, "; ".join(details))

    @app.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == types.TOO_LARGE.status:
            return too_large()
        kind = _BY_STATUS.get(error.status_code, types.INTERNAL)
        detail = f"{request.method} {request.url.path}: {error.detail}"
        headers = dict(error.headers or {})
        if kind is types.METHOD:
            # The framework names the methods of the first route of the path alone.
            allowed = set(_methods(request.app.routes, request.url.path))
            headers["Allow"] = ", ".join(sorted(allowed))
        return problem(kind, detail, headers=headers)


def _methods(routes: Iterable[BaseRoute], path: str) -> Iterator[str]:
    """Yield the methods of a path."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from _methods(included.routes, path)
        elif isinstance(route, Route) and route.path_regex.match(path):
            yield from route.methods or ()
            if "GET" in (route.methods or ()):
                yield "HEAD"
