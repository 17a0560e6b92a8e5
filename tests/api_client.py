"""A client of the HTTP API without a server, an API that tests share, and a check of its problems."""

from functools import cache
from typing import Any

from fastapi import FastAPI, testclient
from httpx import Response
from starlette.types import ASGIApp

from contract.verdicts import Mode
from controller.api.app import build
from controller.api.context import Context
from controller.api.problem_types import BY_NAME
from controller.db.engine import Database
from controller.safety.breaker import DEFAULTS, BreakerLimits
from controller.workqueue.priorities import Priority
from controller.workqueue.queue import Notify
from tests.tokens import HEADERS, give_token


class TestClient(testclient.TestClient):
    """FastAPI's, with a host that the API accepts, and an admin's token.

    Args:
        app: whose database gets the token; another ASGI app must have it already.
    """

    __test__ = False

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        for each in app.user_middleware if isinstance(app, FastAPI) else ():
            if "usage" in each.kwargs:
                give_token(each.kwargs["database"])  # type: ignore[arg-type]
        super().__init__(app, base_url="http://127.0.0.1:8479", headers=HEADERS, **options)


class _Bell:
    """Rings for the test that has the app now."""

    def __init__(self) -> None:
        self.notify: Notify | None = None

    def __call__(self, priority: Priority | None = None, /) -> None:
        if self.notify is not None:
            self.notify(priority)


def shared_app(
    database: Database,
    mode: Mode = Mode.ENFORCE,
    *,
    notify: Notify | None = None,
    breaker: BreakerLimits = DEFAULTS,
) -> FastAPI:
    """The API over a database of the session, which one test after another uses.

    To build one takes 0.15 s of a core, longer than most of them. Who changes it, or follows a stream of it,
    builds one of their own.
    """
    app, bell = _app(database, mode, breaker)
    bell.notify = notify
    return app


@cache
def _app(database: Database, mode: Mode, breaker: BreakerLimits) -> tuple[FastAPI, _Bell]:
    bell = _Bell()
    return build(Context(database, mode=mode, notify=bell, breaker=breaker)), bell


def assert_problem(answer: Response, status: int, detail: str = "", hint: str = "") -> None:
    """The answer is a problem with this status, and its detail and hint contain these texts."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.keys() - {"error_id"} == {"type", "title", "status", "detail", "hint"}
    assert body["status"] == status
    kind = BY_NAME[body["type"].removeprefix("/problems/")]
    assert (body["title"], status) == (kind.title, kind.status)
    assert detail in body["detail"]
    assert body["hint"]
    assert hint in body["hint"]
