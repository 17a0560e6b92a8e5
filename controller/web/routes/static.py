"""The files that pages load, for everybody: the login page needs them."""

from fastapi import APIRouter, Request, Response

from controller.api import problems
from controller.api.access import OPEN
from controller.api.context import Context
from controller.api.problem_types import UNKNOWN
from controller.web import assets


def routes(_context: Context) -> APIRouter:
    router = APIRouter()

    @router.get("/static/{name}", dependencies=[OPEN])
    async def get_file(request: Request, name: str) -> Response:
        """Answer with a file; its path has a hash of its content, so a browser asks once for ever."""
        found = assets.answer(request)
        return found or problems.problem(
            UNKNOWN,
            f"there is no file {name[:100]!r}",
            "reload the page: a newer one names its files",
        )

    return router
