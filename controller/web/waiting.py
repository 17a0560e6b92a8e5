"""The page of a controller that waits to start: what it waits for, what to do, and its files."""

from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from controller.web import assets
from controller.web.headers import HEADERS
from controller.web.pages import environment
from controller.web.problems import wants_page

_API: Final = "/api/"


def answer(request: Request, problem: str, hint: str, retry_seconds: int) -> Response | None:
    """Return what a browser is told; None: the request is a program's.

    Args:
        problem: what the controller waits for.
        retry_seconds: after which a browser may ask again.
    """
    if request.method not in ("GET", "HEAD"):
        return None
    found = assets.answer(request)
    if found is not None:
        return found
    if request.url.path.startswith(_API) or not wants_page(request):
        return None
    text = (
        environment(())
        .get_template("waiting.html")
        .render(path=request.url.path, caller=None, problem=problem, hint=hint)
    )
    headers = {**HEADERS, "Retry-After": str(retry_seconds), "Cache-Control": "no-store"}
    return HTMLResponse(text, 503, headers)
