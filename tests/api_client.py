"""A client of the HTTP API without a server, from the same machine, and a check of its problems."""

from typing import Any

from fastapi import FastAPI, testclient
from httpx import Response
from starlette.types import ASGIApp

from controller.api.problem_types import BY_NAME
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
