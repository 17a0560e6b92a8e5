"""Login by pasting a token, and logout."""

import math
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import RedirectResponse

from contract.runtime.text import printable
from controller.access import sessions, store
from controller.access.failed_logins import FailedLogins
from controller.access.roles import ForbiddenError
from controller.access.sessions import NoSessionError, Started
from controller.access.store import UnauthenticatedError
from controller.api.access import OPEN, READ, client_address
from controller.api.context import Context
from controller.db.states import Role
from controller.runs import counters
from controller.web.access import (
    PlainHttpError,
    check_way,
    delete_cookies,
    longest,
    session_of,
    set_cookie,
)
from controller.web.forms import read_form
from controller.web.pages import render
from controller.web.problems import MAX_NEXT, safe_next

log = structlog.get_logger(__name__)


_EXPECTED: Final = (
    "a token is one line: vxo_, 8 characters, _, 43 characters; `vxctl token list` shows all tokens"
)


class LoginForm(BaseModel):
    """What the login page sends."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    token: Annotated[str, Field(max_length=200)] = ""
    next: Annotated[str, Field(max_length=MAX_NEXT)] = "/"


def routes(context: Context) -> APIRouter:
    router = APIRouter()
    failed = FailedLogins()

    def begin(request: Request, token: str) -> Started:
        now, browser = datetime.now(UTC), printable(request.headers.get("user-agent", ""))
        address = client_address(request.scope)
        # Writers wait for one another: nobody joins them without a valid token.
        with context.database.read() as session:
            caller = store.identify(session, token, now).identity
        if not caller.has(Role.READ):
            raise ForbiddenError(caller, Role.READ)
        with context.database.write() as session:
            return sessions.start(
                session, token, now, address=address, browser=browser, longest=longest(request)
            )

    @router.get("/login", dependencies=[OPEN])
    async def get_login(
        request: Request,
        next_: Annotated[str, Query(alias="next", max_length=MAX_NEXT)] = "/",
        why: Annotated[Literal["", "ended", "out"], Query()] = "",
    ) -> Response:
        """Show the form; `why`: what brought the person here."""
        error = hint = None
        try:
            check_way(request)
        except PlainHttpError as refusal:
            error, hint = str(refusal), refusal.hint
        return render(
            request,
            "login.html",
            next=safe_next(next_),
            why=why,
            error=error,
            hint=hint,
            possible=error is None,
        )

    @router.post("/login", dependencies=[OPEN])
    async def post_login(request: Request) -> Response:
        """Begin a session, and go on to the page that was asked for."""
        form = await read_form(request, LoginForm)
        answer = RedirectResponse(safe_next(form.next), 303)
        try:
            set_cookie(
                request, answer, ""
            )  # Before the token is looked at: is a cookie possible at all?
            started = await run_in_threadpool(begin, request, form.token.strip())
        except (PlainHttpError, ForbiddenError) as error:
            return _again(request, form, 403, str(error), error.hint)
        except UnauthenticatedError as error:
            counters.TOKENS_REFUSED.labels(counters.INVALID_TOKEN).inc()
            address = client_address(request.scope)
            wait = math.ceil(failed.wait(address))
            if not wait:
                return _again(request, form, 401, str(error), _EXPECTED)
            message = f"too many failed logins from {address}"
            page = _again(request, form, 429, message, f"wait {wait} s")
            page.headers["Retry-After"] = str(wait)
            return page
        log.info("login to the dashboard", actor=started.identity.name)
        del answer.headers["set-cookie"]
        set_cookie(request, answer, started.secret)
        return answer

    @router.post("/logout", dependencies=[READ])
    async def post_logout(request: Request) -> Response:
        """End the session of this browser."""
        found = session_of(request)
        if found is not None:
            await run_in_threadpool(end, found.id)
        answer = RedirectResponse("/login?why=out", 303)
        delete_cookies(request, answer)
        return answer

    def end(id_: str) -> None:
        with context.database.write() as session:
            try:
                sessions.end(session, id_, None)
            except NoSessionError:
                return  # Ended meanwhile, which is what was asked for.

    return router


def _again(request: Request, form: LoginForm, status: int, error: str, hint: str) -> Response:
    """Return the form with what was wrong, without the token."""
    return render(
        request,
        "login.html",
        status=status,
        next=safe_next(form.next),
        why="",
        error=error,
        hint=hint,
        possible=True,
    )
