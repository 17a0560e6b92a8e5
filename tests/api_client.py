"""A client of the HTTP API without a server, which asks as from the same machine."""

from typing import Any

from fastapi import testclient
from starlette.types import ASGIApp


class TestClient(testclient.TestClient):
    """FastAPI's, by an address under which a controller may be asked."""

    __test__ = False

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        super().__init__(app, base_url="http://127.0.0.1:8479", **options)
