"""Errors as problem details (RFC 9457): `title`, `status`, `detail` (what is wrong), `hint` (what to do)."""

import time
from collections.abc import Callable, Mapping
from typing import Final
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from controller.api.parameters import ParameterError
from controller.audit.export import PrunedError
from controller.db.engine import database_message, is_away
from controller.db.lookup import AmbiguousError, UnknownError
from controller.views.queries import NoClusterError
from controller.workqueue.requeue import PausedError, TokenTakenError

log = structlog.get_logger(__name__)

_LOG_PERIOD_SECONDS: Final = 60.0
"""Between two log lines about an unavailable database: every client asks again, and the disk may be full."""
_SEE_OPENAPI: Final = "GET /openapi.json describes the API"

_PROBLEMS: Final[Mapping[type[Exception], tuple[int, str, str]]] = {
    ParameterError: (422, "Invalid request", ""),
    UnknownError: (404, "Not found", ""),
    AmbiguousError: (409, "Ambiguous", "use the id"),
    NoClusterError: (409, "Not ready", "`vxctl status` shows why; try again soon"),
    PausedError: (409, "Paused", ""),
    TokenTakenError: (409, "Token taken", "use another token, or none"),
    PrunedError: (410, "Pruned", "the rows are in the archives of the retention"),
}
"""Status, title and hint of errors; their message is the detail. An error's own `hint` takes precedence."""


def problem(status: int, title: str, detail: str, hint: str) -> JSONResponse:
    """Return an answer that says what is wrong and what to do about it."""
    return JSONResponse(
        {"title": title, "status": status, "detail": detail, "hint": hint},
        status_code=status,
        media_type="application/problem+json",
    )


def _handler(status: int, title: str, hint: str) -> Callable[[Request, Exception], JSONResponse]:
    return lambda _, error: problem(status, title, str(error), getattr(error, "hint", hint))


class _DatabaseErrors:
    """Answers errors of the database: 503 if trying again may help, otherwise 500; logs both."""

    def __init__(self) -> None:
        self._logged_at = -_LOG_PERIOD_SECONDS

    def __call__(self, request: Request, error: Exception) -> JSONResponse:
        """Answer a request that failed with this error."""
        if not (isinstance(error, SQLAlchemyError) and is_away(error)):
            error_id = uuid4().hex[:12]
            log.error("a request failed", error_id=error_id, path=request.url.path, exc_info=error)
            return problem(
                500,
                "Internal error",
                f"the controller failed to answer (error_id {error_id})",
                f"search the controller's log for {error_id}, and run `vxctl db check`",
            )
        message = database_message(error)
        now = time.monotonic()
        if now - self._logged_at >= _LOG_PERIOD_SECONDS:
            self._logged_at = now
            log.warning("the database cannot be used", error=message, path=request.url.path)
        return problem(
            503,
            "Database unavailable",
            f"the controller's database cannot be used: {message}",
            "try again soon; if that does not help, check the database",
        )


def install(app: FastAPI) -> None:
    """Answer every error of the API with problem details."""
    for kind, known in _PROBLEMS.items():
        app.add_exception_handler(kind, _handler(*known))
    app.add_exception_handler(SQLAlchemyError, _DatabaseErrors())

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        details = [
            f"{'.'.join(map(str, part['loc'][1:]))}: {part['msg'].removeprefix('Value error, ')}"
            for part in error.errors()
        ]
        return problem(422, "Invalid request", "; ".join(details), _SEE_OPENAPI)

    @app.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> JSONResponse:
        title = str(error.detail)
        detail = f"{request.method} {request.url.path}: {title}"
        return problem(error.status_code, title, detail, _SEE_OPENAPI)
