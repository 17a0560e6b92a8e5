"""The first page: whether all is well, what is wrong, and what was done."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from controller.api.access import READ, Caller
from controller.api.context import Context
from controller.api.routes.status import status_answer
from controller.db.models import Cluster
from controller.db.states import Role
from controller.views import queries
from controller.web import history, live, overview
from controller.web.history import PERIODS
from controller.web.pages import render

SECTIONS: Final = ("now", "nodes", "devices", "removed", "facts")
"""Parts of the page, each of which a page that is open asks for by itself when it changes."""
_MANY_NODES: Final = 1000
"""Of one group, above which it has no squares unless they are asked for: each is a link."""

Section = Literal["now", "nodes", "devices", "removed", "facts"]
PeriodName = Literal["6h", "24h", "7d", "30d"]


def routes(context: Context) -> APIRouter:
    router = APIRouter(dependencies=[Depends(context.turns.status)])

    @router.get("/", dependencies=[READ])
    def get_overview(
        request: Request,
        caller: Caller,
        section: Annotated[Section | None, Query()] = None,
        period: Annotated[PeriodName, Query()] = "24h",
        squares: Annotated[Literal["all"] | None, Query()] = None,
    ) -> Response:
        """Show whether all is well.

        Args:
            section: only that part of the page.
            squares: of every group, however many nodes it has.
        """
        sections = SECTIONS if section is None else (section,)
        now, may_operate = datetime.now(UTC), caller.has(Role.OPERATE)
        values: dict[str, Any] = {}
        with context.database.read() as session:
            marks = live.marks(session)
            if {"now", "nodes", "facts"} & set(sections):
                stale = queries.age(session.get(Cluster, 1)).is_stale(now)
                ready = queries.ready_of_all(session)
                status = status_answer(context, session, ready, 0)
                groups = overview.groups(ready, stale=stale)
                problems = overview.problems(session, status, groups, may_operate=may_operate)
                look, sentence = overview.headline(status, groups, problems)
                values |= {"state": status, "groups": groups, "problems": problems}
                values |= {"look": look, "sentence": sentence, "total": len(ready)}
                values["paused"], values["pauses"] = overview.pauses(session)
            if "devices" in sections:
                values["counts"], values["devices"] = overview.orphans(session, context.mode)
            if "removed" in sections:
                buckets = history.history(session, PERIODS[period], now)
                values |= {"removed": overview.removed(session), "buckets": buckets}
        return render(
            request,
            "overview.html",
            marks=marks,
            sections=sections,
            squares=squares,
            fold_above=None if squares else _MANY_NODES,
            period=period,
            periods=PERIODS,
            docs_url=context.outgoing.docs_url,
            every=1000 if values.get("total", 0) <= _MANY_NODES else 3000,
            **values,
        )

    @router.get("/ui/history.json", dependencies=[READ])
    def get_history(period: Annotated[PeriodName, Query()] = "24h") -> JSONResponse:
        """Answer with the removals and times to heal of a period, as the charts take them."""
        with context.database.read() as session:
            buckets = history.history(session, PERIODS[period], datetime.now(UTC))
        return JSONResponse(history.series(buckets))

    return router
