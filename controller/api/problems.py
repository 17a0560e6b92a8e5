"""Errors as problem details (RFC 9457): what is wrong, and what to do about it."""

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
from controller.db.engine import database_message, is_away
from controller.db.lookup import AmbiguousError, UnknownError
from controller.views.queries import NoClusterError, UnknownCursorError

log = structlog.get_logger(__name__)

_SAY_AGAIN_SECONDS: Final = 60.0
"""So often the log says that the database is away: every client asks again, and the disk may be full."""

_PROBLEMS: Final[Mapping[type[Exception], tuple[int, str, str]]] = {
    UnknownError: (404, "Not found", ""),
    AmbiguousError: (409, "Ambiguous", "use the id"),
    UnknownCursorError: (422, "Invalid request", "begin with the first page again"),
    NoClusterError: (409, "Not ready", "`vxctl status` says why, try again soon"),
}
"""What is wrong is in the error's own words; here are status, title, and what to do about it."""


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """An answer that says what is wrong."""
    return JSONResponse(
        {"title": title, "status": status, "detail": detail},
        status_code=status,
        media_type="application/problem+json",
    )


def _handler(status: int, title: str, remedy: str) -> Callable[[Request, Exception], JSONResponse]:
    def answer(_request: Request, error: Exception) -> JSONResponse:
        return problem(status, title, f"{error}; {getattr(error, 'hint', remedy)}")

    return answer


class _DatabaseErrors:
    """Answers errors of the database: 503 where trying again may help, else 500; both are logged."""

    def __init__(self) -> None:
        self._said_at = -_SAY_AGAIN_SECONDS

    def __call__(self, request: Request, error: Exception) -> JSONResponse:
        """Answer a request that failed for it."""
        if not (isinstance(error, SQLAlchemyError) and is_away(error)):
            error_id = uuid4().hex[:12]
            log.error("a request failed", error_id=error_id, path=request.url.path, exc_info=error)
            return problem(
                500,
                "Internal error",
                "the controller made a mistake, or its database is not as it should be "
                f"(`vxctl db check`); the controller's log says more: error_id {error_id}",
            )
        words = database_message(error)
        now = time.monotonic()
        if now - self._said_at >= _SAY_AGAIN_SECONDS:
            self._said_at = now
            log.warning("the database cannot be used", error=words, path=request.url.path)
        return problem(
            503,
            "Database unavailable",
            f"the controller's database cannot be used: {words}; try again soon, and look at the "
            "database if that does not help",
        )


def install(app: FastAPI) -> None:
    """Answer every error of the API this way."""

    for kind, (status, title, remedy) in _PROBLEMS.items():
        app.add_exception_handler(kind, _handler(status, title, remedy))

    @app.exception_handler(ParameterError)
    def parameter(_request: Request, error: ParameterError) -> JSONResponse:
        return problem(422, "Invalid request", str(error))

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        words = [
            f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors()
        ]
        return problem(422, "Invalid request", "; ".join(words))

    app.add_exception_handler(SQLAlchemyError, _DatabaseErrors())

    @app.exception_handler(HTTPException)
    def other(_request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), f"{error.detail}; see /openapi.json")
