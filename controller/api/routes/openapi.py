"""The route with the OpenAPI specification of all routes."""

from typing import Any

from fastapi import APIRouter, Request

from controller.api.access import READ
from controller.api.context import Context


def routes(context: Context) -> APIRouter:  # noqa: ARG001 -- as in every module
    router = APIRouter()

    @router.get("/openapi.json", include_in_schema=False, dependencies=[READ])
    def get_specification(request: Request) -> dict[str, Any]:
        """Return the specification."""
        specification: dict[str, Any] = request.app.openapi()
        return specification

    return router
