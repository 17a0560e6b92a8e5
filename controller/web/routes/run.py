"""The page about a run, as a timeline from the rejected task to the one that runs again."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from controller.api.access import READ
from controller.api.answers.audit import TimelineAnswer
from controller.api.context import Context
from controller.audit.queries import timeline
from controller.views.steps import steps
from controller.web import live
from controller.web.pages import render


def routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.get("/runs/{id}", dependencies=[READ, Depends(context.turns.lists)])
    def get_run(
        request: Request,
        given: Annotated[
            str, Path(alias="id", max_length=255, description="of a run, or an audit row")
        ],
    ) -> Response:
        """Show a run, or what happened without one."""
        with context.database.read() as session:
            marks = live.marks(session)
            found = timeline.timeline(session, given)
            answer = TimelineAnswer.of(session, found, context.trace_url)
            return render(
                request,
                "run.html",
                marks=marks,
                given=given,
                run=answer.run,
                has_run=any(row.run_id is not None for row in found.rows),
                steps=steps(session, found),
                trace_url=answer.trace_url,
            )

    return router
