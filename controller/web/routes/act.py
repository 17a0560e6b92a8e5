"""Acting: a form says what it will do and asks why, and then shows the audit row that it made."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import uuid4

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse

from controller.access.roles import Identity
from controller.api import acting
from controller.api.access import OPERATE, Caller, identity
from controller.api.answers.audit import audit_answers
from controller.api.answers.plan import PlanAnswer
from controller.api.context import Context
from controller.api.parameters import ParameterError
from controller.db.audit_models import AuditRow
from controller.db.lookup import AmbiguousError, UnknownError
from controller.db.models import Node, Requeue
from controller.safety.holding import Holding
from controller.views import plan, queries
from controller.web import acts, live
from controller.web.acts import Act, Typed
from controller.web.forms import read_form, text_of
from controller.web.pages import render
from controller.workqueue.requeue import PausedError, TokenTakenError

_REFUSED: Final = (
    ValueError, ParameterError, UnknownError, AmbiguousError, PausedError, TokenTakenError,
    queries.NoClusterError,
)  # fmt: skip
_CONFLICT: Final = (PausedError, TokenTakenError, queries.NoClusterError)


def routes(context: Context) -> APIRouter:
    router = APIRouter(dependencies=[Depends(context.turns.lists)])

    @router.get("/do/{act}", dependencies=[OPERATE])
    def get_form(request: Request, act: Act, typed: Annotated[Typed, Query()]) -> Response:
        """Show what an act will do, and ask why."""
        # A link chooses no `once`: followed twice, it would do nothing the second time.
        return _form(request, context, act, typed.model_copy(update={"once": ""}))

    @router.post("/do/{act}", dependencies=[OPERATE])
    async def post_form(request: Request, act: Act) -> Response:
        """Carry out an act, and go to the page that shows its audit row."""
        typed = await read_form(request, Typed)
        return await run_in_threadpool(answer, request, identity(request), act, typed)

    def answer(request: Request, caller: Identity, act: Act, typed: Typed) -> Response:
        try:
            if not typed.reason.strip():
                raise ParameterError("reason", "is missing", "say why: the audit trail keeps it")
            acts.carry_out(context, caller, act, typed)
        except _REFUSED as error:
            return _form(request, context, act, typed, error)
        once = str(acts.sealed(typed))
        done = {"act": act.value, "node": typed.node, "network": typed.network, "once": once}
        query = urlencode({name: value for name, value in done.items() if value})
        return RedirectResponse(f"/done?{query}", 303)

    @router.get("/done", dependencies=[OPERATE])
    def get_done(
        request: Request,
        caller: Caller,
        act: Act,
        once: str,
        node: str = "",
        network: str = "",
    ) -> Response:
        """Show what an act has done: the audit rows that it made, and the run that was requested."""
        typed = Typed(node=node, network=network)
        with context.database.read() as session:
            marks = live.marks(session)
            target = acts.find(session, typed)
            rows, requested = _recorded(session, caller, act, typed, once)
            return render(
                request,
                "done.html",
                marks=marks,
                url=f"/done?{request.url.query}",
                title=f"{acts.TITLES[act]} {acts.form(session, act, typed, context).name}",
                back=acts.path_of(target),
                rows=audit_answers(session, rows, context.trace_url),
                requeue=None
                if requested is None
                else acting.requeue_answer(context, session, requested),
            )

    return router


def _recorded(
    session: Session, caller: Identity, act: Act, typed: Typed, once: str
) -> tuple[Sequence[AuditRow], Requeue | None]:
    try:
        return acts.recorded(session, caller, act, typed, once)
    except ValueError:
        raise ParameterError("once", "is not the number of a form", "go back to the form") from None


def _form(
    request: Request, context: Context, act: Act, typed: Typed, error: Exception | None = None
) -> Response:
    status = 200
    if error is not None:
        status = 409 if isinstance(error, _CONFLICT) else 422
    with context.database.read() as session:
        found = acts.form(session, act, typed, context)
        target = acts.find(session, typed)
        forecast = None
        if act is Act.REQUEUE and isinstance(target, Node):
            now = datetime.now(UTC)
            holding = Holding(session, context.mode, now)
            known = plan.plan(session, target, holding, limits=context.breaker, now=now)
            forecast = PlanAnswer.of(known, stale=plan.is_stale(known, now, context.stale_after))
    return render(
        request,
        "act.html",
        status=status,
        act=act,
        form=found,
        typed=typed,
        once=typed.once or str(uuid4()),
        plan=forecast,
        error=None if error is None else text_of(error),
        hint=getattr(error, "hint", ""),
    )
