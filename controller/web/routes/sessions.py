"""The caller's logins to the dashboard; an admin sees everybody's."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.responses import RedirectResponse

from controller.access import sessions
from controller.api.access import READ, Caller
from controller.api.context import Context
from controller.db.states import Role
from controller.web.access import session_of
from controller.web.pages import render


def routes(context: Context) -> APIRouter:
    router = APIRouter(dependencies=[Depends(context.turns.lists)])

    def scope_of(request: Request, caller: Caller) -> str | None:
        """Return the token whose sessions the caller may see; None: everybody's, empty: nobody's."""
        if caller.has(Role.ADMIN):
            return None
        found = session_of(request)
        return "" if found is None else found.token_id

    @router.get("/sessions", dependencies=[READ])
    def get_sessions(request: Request, caller: Caller) -> Response:
        """List the sessions."""
        own = session_of(request)
        with context.database.read() as session:
            found = sessions.listed(session, scope_of(request, caller), datetime.now(UTC))
            return render(
                request, "sessions.html", sessions=found, own=None if own is None else own.id
            )

    @router.post("/sessions/{id}/end", dependencies=[READ])
    def end_session(
        request: Request, caller: Caller, id_: Annotated[str, Path(alias="id", max_length=8)]
    ) -> Response:
        """End a session; the caller's own, too."""
        with context.database.write() as session:
            sessions.end(session, id_, scope_of(request, caller))
        return RedirectResponse("/sessions", 303)

    return router
