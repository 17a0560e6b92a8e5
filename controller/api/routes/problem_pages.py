"""The pages to which the `type` of problems leads."""

from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from controller.api.access import READ
from controller.api.context import Context
from controller.api.problem_types import BY_NAME, UNKNOWN, ProblemType, may_answer
from controller.db.lookup import UnknownError

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title} - vxlan-operator</title></head>
<body>
<h1>{title}</h1>
<p>HTTP status {status}, type <code>{uri}</code></p>
<p>{meaning}</p>
<p>What to do: {hint}</p>
</body>
</html>
"""
_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def routes(context: Context) -> APIRouter:  # noqa: ARG001 -- as all modules of routes
    router = APIRouter(tags=["problems"])

    @router.get(
        "/problems/{name}",
        response_class=HTMLResponse,
        responses=may_answer(UNKNOWN),
        dependencies=[READ],
    )
    def get_problem_page(
        name: Annotated[
            str,
            Path(
                description="the last part of a problem's `type`",
                json_schema_extra={"enum": list(BY_NAME)},
            ),
        ],
    ) -> HTMLResponse:
        """Return the page of a problem type."""
        kind = BY_NAME.get(name)
        if kind is None:
            raise UnknownError(f"there is no problem type {name!r}", "docs/problems.md lists them")
        return HTMLResponse(_page(kind), headers={"Content-Security-Policy": _POLICY})

    return router


def _page(kind: ProblemType) -> str:
    texts = {
        "title": kind.title,
        "uri": kind.uri,
        "meaning": kind.meaning,
        "hint": kind.hint,
    }
    return _PAGE.format(status=kind.status, **{name: escape(text) for name, text in texts.items()})
