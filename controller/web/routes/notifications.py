"""The page about notification targets, and the forms to test, mute and unmute one."""

from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from controller.access.roles import Identity
from controller.api.access import OPERATE, READ, identity
from controller.api.answers.audit import audit_answers
from controller.api.answers.notifications import TargetAnswer, TrialAnswer
from controller.api.context import Context
from controller.api.parameters import ParameterError
from controller.api.routes.notifications import trial_sender, tried
from controller.notifications import targets
from controller.notifications.errors import TargetError
from controller.web import live, notify_acts
from controller.web.forms import read_form, text_of
from controller.web.notify_acts import NotifyAct, Trials, Typed
from controller.web.pages import render

_REFUSED: Final = (ValueError, ParameterError, TargetError)
_MAX_NAME: Final = 64


def routes(context: Context) -> APIRouter:
    router = APIRouter()
    lists = Depends(context.turns.lists)
    database = context.database
    send = trial_sender(context.outgoing)
    trials = Trials()

    @router.get("/notifications", dependencies=[READ, lists])
    def get_notifications(request: Request) -> Response:
        """Show who is told, and how that goes."""
        now = datetime.now(UTC)
        with database.read() as session:
            marks = live.marks(session)
            waiting, since = targets.waiting(session), targets.waiting_since(session)
            rows = targets.listed(session)
            found = [
                (TargetAnswer.of(row, now, waiting.get(row.id, 0)), since.get(row.id))
                for row in rows
            ]
        return render(request, "notifications.html", marks=marks, targets=found)

    @router.get("/do/notify/{act}", dependencies=[OPERATE, lists])
    def get_form(request: Request, act: NotifyAct, typed: Annotated[Typed, Query()]) -> Response:
        """Show what an act will do, and ask why."""
        return form(request, act, typed.model_copy(update={"once": ""}))

    @router.post("/do/notify/test", dependencies=[OPERATE, Depends(context.turns.notify)])
    async def post_test(request: Request) -> Response:
        """Send a test, and show what its target answered."""
        typed = await read_form(request, Typed)
        return await run_in_threadpool(test, request, identity(request), typed)

    @router.post("/do/notify/{act}", dependencies=[OPERATE, lists])
    async def post_form(request: Request, act: NotifyAct) -> Response:
        """Mute or unmute a target, and go to the page that shows the audit row."""
        typed = await read_form(request, Typed)
        return await run_in_threadpool(change, request, identity(request), act, typed)

    @router.get("/done/notify", dependencies=[OPERATE, lists])
    def get_done(
        request: Request,
        act: NotifyAct,
        target: Annotated[str, Query(max_length=_MAX_NAME)],
        row: UUID,
    ) -> Response:
        """Show the audit row that an act made."""
        return done(request, act, target, row, None)

    def change(request: Request, caller: Identity, act: NotifyAct, typed: Typed) -> Response:
        try:
            with database.write() as session:
                notify_acts.mute_or_unmute(session, caller, act, typed)
        except _REFUSED as error:
            return form(request, act, typed, error)
        row = notify_acts.id_of(caller, act, typed)
        query = urlencode({"act": act.value, "target": typed.target, "row": row})
        return RedirectResponse(f"/done/notify?{query}", 303)

    def test(request: Request, caller: Identity, typed: Typed) -> Response:
        act = NotifyAct.TEST

        def send_once() -> TrialAnswer | None:
            with database.write() as session:
                parcel = notify_acts.to_test(session, caller, typed, context.outgoing)
            return None if parcel is None else tried(send, parcel)

        try:
            id_ = notify_acts.id_of(caller, act, typed)
            answer = trials.once(id_, send_once)
        except _REFUSED as error:
            return form(request, act, typed, error)
        return done(request, act, typed.target, id_, answer)

    def form(
        request: Request, act: NotifyAct, typed: Typed, error: Exception | None = None
    ) -> Response:
        with database.read() as session:
            found = notify_acts.form(session, act, typed, datetime.now(UTC))
        return render(
            request,
            "notify_act.html",
            status=200 if error is None else 422,
            act=f"notify/{act}",
            form=found,
            typed=typed,
            once=typed.once or str(uuid4()),
            plan=None,
            error=None if error is None else text_of(error),
            hint=getattr(error, "hint", ""),
        )

    def done(
        request: Request, act: NotifyAct, target: str, id_: UUID, trial: TrialAnswer | None
    ) -> Response:
        with database.read() as session:
            rows = audit_answers(session, notify_acts.recorded(session, id_), context.trace_url)
        return render(
            request,
            "notify_done.html",
            is_test=act is NotifyAct.TEST,
            title=notify_acts.title(act, target),
            rows=rows,
            trial=trial,
        )

    return router
