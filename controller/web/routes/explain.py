"""The page that explains an error text: its fault, where it is, what was done, and what to do by hand."""

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict

from controller.api.access import READ
from controller.api.answers.explain import ExplanationAnswer
from controller.api.context import Context
from controller.api.routes.explain import explained
from controller.explain.text import MAX_TEXT
from controller.web.forms import read_form
from controller.web.pages import render

_MAX_BODY_BYTES = 12 * MAX_TEXT
"""A character may need four bytes, and a byte three characters of a form."""


class ExplainForm(BaseModel):
    """What the page sends."""

    model_config = ConfigDict(extra="forbid")

    text: str = ""


def routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.get("/explain", dependencies=[READ])
    async def get_explain(request: Request) -> Response:
        """Ask for a text."""
        return page(request, "")

    @router.post(
        "/explain",
        dependencies=[READ, Depends(context.turns.explain)],
        max_body_size=_MAX_BODY_BYTES,
    )
    async def post_explain(request: Request) -> Response:
        """Explain a text."""
        form = await read_form(request, ExplainForm)
        text = form.text.strip()
        if not text:
            return page(
                request, "", error="there is nothing to explain", hint="paste an error line"
            )
        if len(text) > MAX_TEXT:
            hint = "paste the lines around the error alone"
            error = f"the text has {len(text):,} characters; {MAX_TEXT:,} are possible"
            return page(request, "", error=error, hint=hint)
        answer = await run_in_threadpool(explained, context, text)
        return page(request, text, answer)

    def page(
        request: Request,
        text: str,
        answer: ExplanationAnswer | None = None,
        *,
        error: str = "",
        hint: str = "",
    ) -> Response:
        return render(
            request,
            "explain.html",
            status=422 if error else 200,
            text=text,
            answer=answer,
            error=error,
            hint=hint,
            max_text=MAX_TEXT,
        )

    return router
