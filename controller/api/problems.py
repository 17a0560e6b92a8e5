"""Errors as problem details (RFC 9457): what is wrong, and what to do about it."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from controller.api.parameters import ParameterError
from controller.audit.stories import AmbiguousRunError, UnknownRowError
from controller.queries import (
    AmbiguousNetworkError,
    AmbiguousNodeError,
    NoClusterError,
    UnknownCursorError,
    UnknownNetworkError,
    UnknownNodeError,
)


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """An answer that says what is wrong."""
    return JSONResponse(
        {"title": title, "status": status, "detail": detail},
        status_code=status,
        media_type="application/problem+json",
    )


def install(app: FastAPI) -> None:
    """Answer every error of the API this way."""

    @app.exception_handler(UnknownNodeError)
    def unknown_node(_request: Request, error: UnknownNodeError) -> JSONResponse:
        return problem(404, "Unknown node", f"{error}; `vxctl status` lists the nodes")

    @app.exception_handler(AmbiguousNodeError)
    def ambiguous_node(_request: Request, error: AmbiguousNodeError) -> JSONResponse:
        return problem(409, "Ambiguous node", f"{error}; give the id")

    @app.exception_handler(UnknownNetworkError)
    def unknown_network(_request: Request, error: UnknownNetworkError) -> JSONResponse:
        return problem(404, "Unknown network", f"{error}; GET /api/v1/networks lists them")

    @app.exception_handler(AmbiguousNetworkError)
    def ambiguous_network(_request: Request, error: AmbiguousNetworkError) -> JSONResponse:
        return problem(409, "Ambiguous network", f"{error}; give the id")

    @app.exception_handler(UnknownCursorError)
    def unknown_cursor(_request: Request, error: UnknownCursorError) -> JSONResponse:
        return problem(422, "Invalid request", f"{error}; begin with the first page again")

    @app.exception_handler(NoClusterError)
    def no_cluster(_request: Request, error: NoClusterError) -> JSONResponse:
        return problem(409, "Not ready", f"{error}; `vxctl status` says why, try again soon")

    @app.exception_handler(UnknownRowError)
    def unknown_row(_request: Request, error: UnknownRowError) -> JSONResponse:
        return problem(404, "Unknown row or run", f"{error}; `vxctl audit -o wide` shows ids")

    @app.exception_handler(AmbiguousRunError)
    def ambiguous_run(_request: Request, error: AmbiguousRunError) -> JSONResponse:
        return problem(409, "Ambiguous run", f"{error}; give more of the id")

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

    @app.exception_handler(SQLAlchemyError)
    def database(_request: Request, error: SQLAlchemyError) -> JSONResponse:
        return problem(
            503,
            "Database unavailable",
            f"the controller's database does not answer ({type(error).__name__}); try again soon",
        )

    @app.exception_handler(HTTPException)
    def other(_request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), f"{error.detail}; see /openapi.json")
