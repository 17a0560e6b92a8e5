"""Asking a running controller over its HTTP API."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

import httpx

from contract.runtime.errors import OperatorError
from controller.api import IDENTITY_HEADER

_TIMEOUT_SECONDS: Final = 10.0
_HINT: Final = (
    "start it (`vxctl controller`), or set VXLAN_OPERATOR_URL (or --url) to http://HOST:PORT"
)
_PAGE: Final = 1000
"""Rows that the API gives at once."""

Parameter = str | int | Sequence[str]
"""Of a question; several values repeat it."""


class UnavailableError(OperatorError):
    """The controller does not answer, or cannot now; asking again later may help."""


class Client:
    """The API at `url`; every failure is an OperatorError with a line that a person can act on."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def get(self, path: str, **parameters: Parameter | None) -> Any:
        """GET a JSON answer; parameters that are None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._ask("GET", path, given)

    def pages(
        self,
        path: str,
        cursor: str,
        key: Callable[[dict[str, Any]], str],
        *,
        limit: int,
        **parameters: str | None,
    ) -> list[dict[str, Any]]:
        """GET a list page by page, up to `limit` rows.

        Args:
            path: of the list.
            cursor: the parameter that takes `key` of the last row of the page before.
        """
        rows: list[dict[str, Any]] = []
        while len(rows) < limit:
            asked = min(_PAGE, limit - len(rows))
            last = {} if not rows else {cursor: key(rows[-1])}
            page = self.get(path, limit=asked, **parameters, **last)
            rows += page
            if len(page) < asked:
                break
        return rows

    def post(self, path: str, body: Any = None, **parameters: str | int | None) -> Any:
        """POST a JSON body, or none, for a JSON answer; parameters that are None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._ask("POST", path, given, body)

    def stream(self, path: str, **parameters: str | int | None) -> Iterator[bytes]:
        """GET an answer of any length, in pieces as they come; it may be cut short without an error."""
        given = {name: value for name, value in parameters.items() if value is not None}
        with (
            self._told(),
            httpx.stream(
                "GET", f"{self._url}{path}", params=given, timeout=_TIMEOUT_SECONDS
            ) as answer,
        ):
            if not answer.is_success or IDENTITY_HEADER not in answer.headers:
                answer.read()
                self._check(answer)
            try:
                yield from answer.iter_bytes()
            except httpx.RemoteProtocolError:
                return

    def _ask(
        self, method: str, path: str, parameters: Mapping[str, Parameter], body: Any = None
    ) -> Any:
        with self._told():
            answer = httpx.request(
                method, f"{self._url}{path}", params=parameters, json=body, timeout=_TIMEOUT_SECONDS
            )
        self._check(answer)
        return answer.json()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say it in a line when no answer comes."""
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise OperatorError(f"{self._url!r} is not a URL: {error}", _HINT) from error
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"no controller answers at {self._url}: {error}", _HINT
            ) from error

    def _check(self, answer: httpx.Response) -> None:
        if IDENTITY_HEADER not in answer.headers:
            raise UnavailableError(
                f"the server at {self._url} is not a vxlan-operator controller "
                f"(HTTP {answer.status_code})",
                _HINT,
            )
        if answer.is_success:
            return
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            body = {}
        problem = body.get("detail") or f"HTTP {answer.status_code}"
        if answer.is_client_error:
            raise OperatorError(problem, body.get("hint") or "correct the command")
        raise UnavailableError(
            problem, body.get("hint") or "look at the controller's log, and try again"
        )


def node_path(node: str, action: str = "") -> str:
    """The path of a node that a person named; whatever was typed stays one path segment."""
    return f"/api/v1/nodes/{quote(node, safe='')}{action}"


def network_path(network: str, action: str = "") -> str:
    """The same for a network."""
    return f"/api/v1/networks/{quote(network, safe='')}{action}"
